"""The configuration of a run, read from its folder, which can come from a stranger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven import trust
from einthoven.data.sources.ptbxl import MIRRORS
from einthoven.errors import UserError
from einthoven.files import read_file
from einthoven.tracking.places import (
    check_location,
    check_registration,
    check_store,
    is_in_working_folder,
    is_trusted_address,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

NAME = "config.yaml"
_LARGEST = 2**18  # bytes; those of a run are some thousand
_DEEPEST = 20  # mappings and lists inside of each other
_PARTS = ("data", "task", "loss", "pca", "augment", "model", "init", "optimizer", "schedule", "penalty", "advice")
_OPTIONAL_PARTS = ("probe", "figure", "explanation")
_GROUPS = ("trainer", "diagnostics", "tracking")
MOVED = {
    "einthoven.commands.interpolation.": "einthoven.runs.interpolation.",
    "einthoven.data.cinc.": "einthoven.data.sources.cinc.",
    "einthoven.data.concat.": "einthoven.data.sources.concat.",
    "einthoven.data.embedded.": "einthoven.data.sources.embedded.",
    "einthoven.data.folder.": "einthoven.data.sources.folder.",
    "einthoven.data.ptbxl.": "einthoven.data.sources.ptbxl.",
    "einthoven.functional.augment.": "einthoven.augment.",
    "einthoven.objectives.": "einthoven.losses.",
}
"""Beginnings of targets that version 0.1 has written -> where the same objects are now."""

_SPECIAL = ("_args_", "_recursive_", "_convert_")  # keys of Hydra that no part of this package needs


def read_config(folder: Path, option: str) -> DictConfig:
    """Read the configuration of a run, and refuse what a run never writes.

    Nothing is built, and nothing is imported that its option does not accept.

    Parameters
    ----------
    folder : Path
        Of the run.
    option : str
        What named the folder, for sentences.

    Raises
    ------
    UserError
        If there is none, or it is not one that a run has written.
    """
    from omegaconf import DictConfig, OmegaConf

    try:
        config = parsed(_text(folder / NAME))
        content = OmegaConf.to_container(config)
        assert isinstance(content, dict)
        content = with_current_names(content)
        config = DictConfig(content)
        _check_options(content)
        _check_targets(content, "", trust.check_name)  # of all, before any of them is imported
        _check_targets(content, "", trust.accepted)
        _check_data(content["data"], "data")
    except UserError as error:
        raise UserError(f"{option}={folder}: {NAME}: {error}") from None
    check_store(str(config.tracking.get("uri")), folder / NAME)
    check_location(config.tracking.get("artifact_location"), folder / NAME)
    # Only a resumed run registers its model. All other commands do not read these options.
    if option == "resume":
        check_registration(config.tracking.get("register"), config.tracking.get("alias"), folder / NAME)
    config["resume"] = None
    return config


def with_current_names(node: Any) -> Any:
    """A copy of a configuration, or of a part of it, in which the targets of version 0.1 have their current names."""
    if isinstance(node, dict):
        current = {name: with_current_names(value) for name, value in node.items()}
        if "_target_" in node:
            current["_target_"] = _current(node["_target_"])
        return current
    if isinstance(node, list):
        return [with_current_names(item) for item in node]
    return node


def _current(target: Any) -> Any:
    if isinstance(target, str):
        for before, now in MOVED.items():
            if target.startswith(before):
                return now + target.removeprefix(before)
    return target


def _text(path: Path) -> str:
    """The text of an ordinary file of usual size."""
    try:
        return read_file(path, _LARGEST).decode()
    except UnicodeDecodeError:
        raise UserError("not text in UTF-8; expected the configuration of a run.") from None


def parsed(text: str) -> DictConfig:
    """A mapping of plain values.

    Raises
    ------
    UserError
        If it is not one.
    """
    import yaml  # type: ignore[import-untyped]
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        _check_events(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        config = OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OverflowError, RecursionError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"cannot be read as YAML ({trust.shown(lines[0])}).") from None
    if not isinstance(config, DictConfig):
        raise UserError("a list; expected the options of a run.")
    return config


def _check_events(events: Iterable[Any]) -> None:
    """Refuse what means more than it says, while it is text.

    Anchors multiply without end when they are read, tags name classes, and interpolations call functions.
    """
    import yaml

    depth = 0
    for event in events:
        if getattr(event, "anchor", None) is not None:
            raise UserError("holds a YAML anchor; expected plain values.")
        if getattr(event, "tag", None) is not None:
            raise UserError(f"holds the YAML tag {trust.shown(event.tag)}; expected plain values.")
        value = event.value if isinstance(event, yaml.ScalarEvent) else ""
        if "${" in value:
            raise UserError(f"holds the interpolation {trust.shown(value)}; expected plain values.")
        if value == "???":
            raise UserError("holds an option without a value (???); expected a value.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise UserError(f"holds more than {_DEEPEST} mappings and lists inside of each other.")


def _check_options(content: Mapping[Any, Any]) -> None:
    """Refuse a configuration that lacks what every run has."""
    for name in ("seed", *_GROUPS, *_PARTS):
        if name not in content:
            raise UserError(f"has no {name}; expected the configuration of a run.")
    parts = [*_PARTS, *(name for name in _OPTIONAL_PARTS if name in content)]
    for name in (*parts, *_GROUPS):
        if not isinstance(content[name], dict):
            raise UserError(f"{name}: expected options, found {trust.shown(content[name])}.")
    for name in parts:
        if "_target_" not in content[name]:
            raise UserError(f"{name}: has no _target_; expected the function or the class that it is.")
    if not isinstance(content["data"].get("folds"), dict):
        raise UserError("data.folds: expected the folds of train, val and test.")


def _check_targets(node: Any, key: str, check: Callable[[Any, str], object]) -> None:
    """Refuse targets that their options do not accept."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            _check_targets(item, f"{key}.{number}", check)
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        try:
            check(node["_target_"], key)
        except UserError as error:  # it begins with the target
            raise UserError(f"{key}._target_={error}" if key else f"_target_={error}") from None
    for name in _SPECIAL:
        if name in node and not trust.is_trusted(node.get("_target_")):
            raise UserError(f"{key}.{name}: expected only beside a target of a trusted module.")
    if not isinstance(node.get("_partial_", True), bool):
        raise UserError(f"{key}._partial_={trust.shown(node['_partial_'])}: expected true or false.")
    for name, value in node.items():
        _check_targets(value, f"{key}.{name}" if key else str(name), check)


def _check_data(node: Any, key: str) -> None:
    """Refuse a source that would write outside of the working folder, or ask a server of a stranger's choice.

    Records are read from anywhere: what a run says of them stays on this machine.
    """
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in children:
        _check_data(value, f"{key}.{name}")
    if isinstance(node, str) and "://" in node and node not in MIRRORS and not is_trusted_address(node):
        raise UserError(f"{key}={trust.shown(node)}: add --trust {trust.shown(node)} if it may be asked for records.")
    if not isinstance(node, dict):
        return
    cache = node.get("cache")
    if isinstance(cache, str) and not _may_hold_packs(Path(cache)):
        raise UserError(
            f"{key}.cache={trust.shown(cache)}: expected a folder that holds stores, or one in the working folder; "
            f"make {trust.shown(Path(cache) / 'stores')} if packed records may be written there."
        )
    root = Path(str(node.get("root")))
    fold_file = node.get("fold_file")
    # A new file begins with the name of a column, which is a stranger's text: a shell would run it.
    if fold_file is not None and not _may_hold_folds(root / str(fold_file)):
        raise UserError(
            f"{key}.fold_file={trust.shown(fold_file)}: expected a file that is there, or one in the working folder "
            "whose name ends in .csv."
        )
    if node.get("download") and not (root.is_dir() or is_in_working_folder(root)):
        raise UserError(
            f"{key}.root={trust.shown(root)}: expected a folder that is there, or one in the working folder; "
            f"make it if records may be downloaded to it."
        )


def _may_hold_folds(file: Path) -> bool:
    return file.is_file() or (file.suffix == ".csv" and is_in_working_folder(file))


def _may_hold_packs(cache: Path) -> bool:
    return is_in_working_folder(cache) or any((cache / name).is_dir() for name in ("stores", "packs"))
