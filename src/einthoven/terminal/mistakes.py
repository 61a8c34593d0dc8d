"""Hydra's and OmegaConf's errors as one sentence with the close matches."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import OverrideParseException

from einthoven import trust
from einthoven.build import unknown_name
from einthoven.command_line import suggestion
from einthoven.errors import UserError
from einthoven.terminal.conf_folders import as_option, conf_folders, option_files

if TYPE_CHECKING:
    from omegaconf import DictConfig


def sentence(error: Exception, conf: Path, name: str, arguments: Sequence[str]) -> str:
    """One sentence for an error of composing ``conf/NAME.yaml`` with the given arguments."""
    message = str(error)
    folders, options = conf_folders(conf, arguments)
    if found := re.search(r"Could not find '(\S+)/([^'/]+)'", message):
        group, option = found[1], found[2]
        if group == "hydra/launcher" and option.startswith(("joblib", "submitit")):
            return f"{group}={option}: its package is not installed; install einthoven[launchers]."
        return unknown_name(f"{group}={option}", option, list(option_files(folders, group)))
    if found := re.search(r"Could not override '([^']+)'", message):
        key = found[1].split("@")[0]
        return _unknown(key, folders, name, options)
    if "mandatory value: " in message or "Missing mandatory" in message:
        return message.splitlines()[0] + "."
    first = re.sub(r"\s+", " ", message.split("See https")[0]).strip()
    if isinstance(error, OverrideParseException):
        how = _how_to_type(error.override) or f" ({first.removesuffix('.')})"
        return f"{error.override}: cannot be read as OPTION=VALUE{how}."
    return first if first.endswith(".") else f"{first}."


def _how_to_type(override: str) -> str:
    """What to do about an option that Hydra cannot read; nothing where its value is written as a list or a mapping."""
    name, equals, value = override.partition("=")
    if not equals or not name or value.startswith(("[", "{")):
        return ""
    return f"; a text with such characters takes quotes inside of quotes: {suggestion(override)}"


def _unknown(key: str, folders: Sequence[Path], name: str, arguments: Sequence[str]) -> str:
    """A sentence for a dotted option that the configuration does not have."""
    from hydra import compose, initialize_config_dir
    from omegaconf import DictConfig

    parts = (argument.partition("=") for argument in arguments)
    options = [(part, option.split(",")[0]) for part, _, option in parts]  # of a sweep, the first
    chosen = [f"{part}={option}" for part, option in options if option and option in option_files(folders, part)]
    with initialize_config_dir(str(folders[0]), version_base="1.3"):
        node = compose(name, [*as_option(folders[1:]), *chosen])
    *parents, last = key.split(".")
    for part in parents:
        child = node.get(part)
        if not isinstance(child, DictConfig):
            last = part
            break
        node = child
    if last in _arguments(node):
        return f"{key}: the file of this option does not list it; give it as +{key}=…"
    names = [str(known) for known in node if not str(known).startswith("_")]
    return unknown_name(key, last, names or _arguments(node))


def _arguments(node: DictConfig) -> list[str]:
    """What the function of a part takes; nothing if it cannot be found."""
    place = str(node._get_full_key(None))
    try:
        trust.trust([str(node.get("_target_"))])  # the user has composed it
        return list(inspect.signature(trust.accepted(str(node.get("_target_")), place)).parameters)
    except (UserError, ValueError, TypeError):
        return []
