"""Hydra's and OmegaConf's errors as one sentence with the close matches."""

from __future__ import annotations

import re
from pathlib import Path

from einthoven.build import unknown_name


def explain(error: Exception, conf: Path, name: str) -> str:
    """One sentence for an error of composing ``conf/NAME.yaml``."""
    message = str(error)
    if found := re.search(r"Could not find '(\S+)/([^'/]+)'", message):
        group, option = found[1], found[2]
        return unknown_name(f"{group}={option}", option, [path.stem for path in (conf / group).glob("*.yaml")])
    if found := re.search(r"Could not override '([^']+)'", message):
        key = found[1].split("@")[0]
        return unknown_name(key, key.split(".")[-1], _names_beside(key, conf, name))
    if "mandatory value: " in message or "Missing mandatory" in message:
        return message.splitlines()[0] + "."
    first = re.sub(r"\s+", " ", message.split("See https")[0]).strip()
    return first if first.endswith(".") else f"{first}."


def _names_beside(key: str, conf: Path, name: str) -> list[str]:
    """What could have stood in the place of an unknown option."""
    from hydra import compose, initialize_config_dir
    from omegaconf import DictConfig, OmegaConf

    with initialize_config_dir(str(conf), version_base="1.3"):
        config = compose(name)
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else config
    return (
        [str(k) for k in node if not str(k).startswith("_")]
        if isinstance(node, DictConfig)
        else [str(k) for k in config]
    )
