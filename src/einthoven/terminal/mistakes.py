"""Errors of Hydra and OmegaConf as one sentence, with names that are similar to a wrong one."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import OverrideParseException
from omegaconf import OmegaConf

from einthoven import trust
from einthoven.build import unknown_name
from einthoven.command_line import suggestion
from einthoven.errors import UserError, first_line
from einthoven.terminal.composition import compose_options
from einthoven.terminal.conf_folders import conf_folders, load_option, option_files
from einthoven.terminal.signatures import parameters_in_source

if TYPE_CHECKING:
    from omegaconf import DictConfig


def sentence(error: Exception, conf: Path, name: str, arguments: Sequence[str]) -> str:
    """Return a sentence for an error that Hydra raised when it composed ``conf/NAME.yaml`` with a command line."""
    message = str(error)
    folders, options = conf_folders(conf, arguments)

    unknown_file = re.search(r"Could not (?:find|load) '(\S+)/([^'/]*)'", message)
    if unknown_file:
        group = unknown_file[1]
        option = unknown_file[2]
        if group == "hydra/launcher" and option.startswith(("joblib", "submitit")):
            return f"{group}={option}: its package is not installed; install einthoven[launchers]."
        if group == "hydra/launcher" and option == "ray":
            return f"{group}={option}: its package is not installed; install einthoven[ray]."
        return unknown_name(f"{group}={option}", option, list(option_files(folders, group)))

    unknown_part = re.search(r"In '(\S+)/([^'/]+)': Could not override '([^'@]+)", message)
    if unknown_part:
        group, option, part = unknown_part.groups()
        # The option may rest on another one, which the message of Hydra names.
        chosen = [value for key, _, value in (argument.partition("=") for argument in options) if key == group]
        option = chosen[-1] if chosen else option
        return f"{group}={option}: chooses a {part}, which einthoven {name} does not have; expected another {group}."

    unknown_key = re.search(r"Could not override '([^']+)'", message)
    if unknown_key:
        key = unknown_key[1].split("@")[0]
        parts = parts_of_verb(conf, name)
        if key not in parts and any((folder / key).is_dir() for folder in folders):
            return f"{key}: einthoven {name} has no part {key}; expected {' or '.join(parts)}."
        return _unknown_key_sentence(key, folders, name, options)

    several = re.search(r"Ambiguous value for argument '(.+?)'\n", message)
    if several:
        sweep = f"einthoven {name} -m {shlex.quote(several[1])}"
        return f"{several[1]}: several values; expected one, or a sweep ({sweep})."

    removed_part = re.search(r"Key '([^']+)' is not in struct", message)
    if removed_part and f"~{removed_part[1]}" in arguments:
        return f"~{removed_part[1]}: einthoven {name} needs this part; expected {removed_part[1]}=OPTION."

    without_target = re.search(r"full_key: ([\w.]+?)(?:\._target_|\[_target_\])\s", message)
    if without_target:
        return f"{without_target[1]}: the yaml of this option has no _target_; expected a mapping that names one."

    if "mandatory value: " in message or "Missing mandatory" in message:
        return message.splitlines()[0] + "."

    # Any other message of Hydra, in one line and without the address of its documentation.
    without_address = message.split("See https")[0]
    with_option = re.sub(r"\s+full_key: (\S+)\s+object_type=\S+", r" (\1)", without_address)
    one_line = re.sub(r"\s+", " ", with_option).strip()
    if isinstance(error, OverrideParseException):
        advice = _quoting_advice(error.override) or f" ({one_line.removesuffix('.')})"
        return f"{error.override}: cannot be read as OPTION=VALUE{advice}."
    return one_line if one_line.endswith(".") else f"{one_line}."


def composition_sentence(error: Exception, conf: Path, name: str, arguments: Sequence[str]) -> str:
    """Return a sentence for an error of a composition that is none of Hydra's own.

    A part without an option causes one, and a yaml with an error. The parameters are those of `sentence`.
    """
    folders, options = conf_folders(conf, arguments)
    parts = parts_of_verb(conf, name)
    for argument in options:
        part, _, value = argument.partition("=")
        if part in parts and not set(value.split(",")) <= set(option_files(folders, part)):
            expected = ", ".join(sorted(option_files(folders, part)))
            return f"{argument}: expected an option of {part}: {expected}."

    # A chosen yaml that cannot be read.
    for argument in options:
        part, _, value = argument.partition("=")
        files = option_files(folders, part)
        for path in [files[name] for name in value.split(",") if name in files]:
            try:
                load_option(path)
            except UserError as problem:
                return str(problem)
    return f"einthoven {name} {' '.join(arguments)}: cannot be read as options ({first_line(error)})."


def parts_of_verb(conf: Path, name: str) -> list[str]:
    """Return the parts of a run that a verb has: the groups in the defaults list of ``conf/NAME.yaml``."""
    parts = []
    for entry in OmegaConf.load(conf / f"{name}.yaml").defaults:
        if not isinstance(entry, str):
            parts += [str(group) for group in entry if not str(group).startswith("override ")]
    return parts


def refuse_unread(verb: str, folders: Sequence[Path], arguments: Sequence[str]) -> None:
    """Refuse an option that the command line adds with ``+`` and that nothing reads.

    An option of the user's own folder, or another value of the command line, may refer to it: ``${NAME}``.
    """
    if len(folders) > 1:
        return
    known = {*OmegaConf.load(folders[0] / f"{verb}.yaml"), *parts_of_verb(folders[0], verb), "hydra"}
    known |= {folder.name for folder in folders[0].iterdir() if folder.is_dir()}
    for argument in arguments:
        name = re.split(r"[.@=]", argument.lstrip("+"))[0]
        is_referred = any(f"${{{name}" in other for other in arguments)
        if argument.startswith("+") and name not in known and not is_referred:
            raise UserError(unknown_name(argument, name, sorted(known - {"defaults"})))


def _quoting_advice(override: str) -> str:
    """Return how to quote the value of an option; an empty text if the value is written as a list or a mapping."""
    name, equals, value = override.partition("=")
    if not equals or not name or value.startswith(("[", "{")):
        return ""
    return f"; a text with such characters takes quotes inside of quotes: {suggestion(override)}"


def _unknown_key_sentence(key: str, folders: Sequence[Path], name: str, arguments: Sequence[str]) -> str:
    """Return a sentence for a dotted option that the configuration does not have."""
    from omegaconf import DictConfig

    # Compose the configuration with the chosen parts, but without the values. Of a sweep, take the first choice.
    parts = parts_of_verb(folders[0], name)
    chosen_parts = []
    for argument in arguments:
        part, _, value = argument.partition("=")
        first_value = value.split(",")[0]
        if part in parts and first_value and first_value in option_files(folders, part):
            chosen_parts.append(f"{part}={first_value}")
    node = compose_options(folders, name, *chosen_parts)

    # The name of a value without its part, such as epochs=5.
    owners = [part for part in parts if isinstance(node.get(part), DictConfig) and key in node[part]]
    if owners:
        return f"{key}: unknown; this is a value of a part: expected {' or '.join(f'{part}.{key}' for part in owners)}."

    # Go down to the first name that does not exist.
    *parents, unknown = key.split(".")
    for parent in parents:
        child = node.get(parent)
        if not isinstance(child, DictConfig):
            unknown = parent
            break
        node = child

    parameters = _parameters(node)
    if unknown in parameters:
        return f"{key}: the file of this option does not list it; give it as +{key}=…"
    names = [str(name) for name in node if not str(name).startswith("_")]
    return unknown_name(key, unknown, names or parameters)


def _parameters(node: DictConfig) -> list[str]:
    """Return the parameters of the function that a part names; an empty list if it cannot be imported."""
    key = str(node._get_full_key(None))
    target = str(node.get("_target_"))
    in_source = parameters_in_source(target)
    if in_source is not None:
        return in_source
    try:
        # The user composed this part, so its code is trusted.
        trust.trust([target])
        return list(inspect.signature(trust.find_target(target, key)).parameters)
    except (UserError, ValueError, TypeError):
        return []
