"""Hydra's and OmegaConf's errors as one sentence with the close matches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import OverrideParseException

from einthoven.build import unknown_name


def sentence(error: Exception, conf: Path, name: str, arguments: Sequence[str]) -> str:
    """One sentence for an error of composing ``conf/NAME.yaml`` with the given arguments."""
    message = str(error)
    if found := re.search(r"Could not find '(\S+)/([^'/]+)'", message):
        group, option = found[1], found[2]
        if group == "hydra/launcher" and option.startswith(("joblib", "submitit")):
            return f"{group}={option}: its package is not installed; install einthoven[launchers]."
        return unknown_name(f"{group}={option}", option, [path.stem for path in (conf / group).glob("*.yaml")])
    if found := re.search(r"Could not override '([^']+)'", message):
        key = found[1].split("@")[0]
        return unknown_name(key, *_first_unknown(key, conf, name, arguments))
    if "mandatory value: " in message or "Missing mandatory" in message:
        return message.splitlines()[0] + "."
    first = re.sub(r"\s+", " ", message.split("See https")[0]).strip()
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as OPTION=VALUE ({first.removesuffix('.')})."
    return first if first.endswith(".") else f"{first}."


def _first_unknown(key: str, conf: Path, name: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The part of a dotted option that does not exist, and what could have stood in its place."""
    from hydra import compose, initialize_config_dir
    from omegaconf import DictConfig

    parts = (argument.partition("=") for argument in arguments)
    options = [(part, option.split(",")[0]) for part, _, option in parts]  # of a sweep, the first
    chosen = [f"{part}={option}" for part, option in options if option and (conf / part / f"{option}.yaml").exists()]
    with initialize_config_dir(str(conf), version_base="1.3"):
        node = compose(name, chosen)
    *parents, last = key.split(".")
    for part in parents:
        child = node.get(part)
        if not isinstance(child, DictConfig):
            last = part
            break
        node = child
    return last, [str(k) for k in node if not str(k).startswith("_")]
