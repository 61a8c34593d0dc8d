"""Read the configuration of a run from its folder, which may come from a stranger."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven import trust
from einthoven.data.sources.ptbxl import MIRRORS
from einthoven.errors import UserError
from einthoven.files import is_there, read_file, seen_from_here
from einthoven.runs.config.options import WORKING_FOLDER
from einthoven.runs.config.settings import OPTIONAL_PARTS, PARTS
from einthoven.tracking.addresses import ids_file, read_ids
from einthoven.tracking.places import (
    check_location,
    check_registration,
    check_store,
    is_in_working_folder,
    is_trusted_address,
)
from einthoven.tracking.server import with_password

if TYPE_CHECKING:
    from omegaconf import DictConfig

NAME = "config.yaml"

_MAX_BYTES = 2**18
"""The configuration of a run has some thousand bytes."""

_MAX_DEPTH = 20
"""Mappings and lists inside of each other."""

_GROUPS = ("trainer", "diagnostics", "tracking")

MOVED = {
    "einthoven.commands.interpolation.": "einthoven.runs.comparison.interpolation.",
    "einthoven.runs.interpolation.": "einthoven.runs.comparison.interpolation.",
    "einthoven.runs.weight_posterior.": "einthoven.runs.comparison.weight_posterior.",
    "einthoven.data.cinc.": "einthoven.data.sources.cinc.",
    "einthoven.data.concat.": "einthoven.data.sources.concat.",
    "einthoven.data.embedded.": "einthoven.data.sources.embedded.",
    "einthoven.data.folder.": "einthoven.data.sources.folder.",
    "einthoven.data.ptbxl.": "einthoven.data.sources.ptbxl.",
    "einthoven.functional.augment.": "einthoven.augment.",
    "einthoven.objectives.": "einthoven.losses.",
}
"""Beginnings of targets that earlier versions have written, and where the same objects are now."""

RENAMED_GROUPS = {"probe": "analysis"}
"""Groups of version 0.1, and their current names."""

REMOVED = {"advice": ("few_positives", "top_errors")}
"""Options of version 0.2 that no longer exist, for each group."""

_SPECIAL = ("_args_", "_recursive_", "_convert_")
"""Keys of Hydra that no part of this package needs."""


def read_config(folder: Path, option: str) -> DictConfig:
    """Read the configuration of a run, and refuse what a run never writes. `option` named the folder, for messages.

    Nothing is built. Only objects that their options accept are imported.
    """
    from omegaconf import DictConfig, OmegaConf

    try:
        content = OmegaConf.to_container(parse_yaml(_read_text(folder / NAME)))
        assert isinstance(content, dict)
        content = with_current_names(content)
        working_folders = _working_folders(content.pop(WORKING_FOLDER, None), folder)
        _check_groups(content)
        _find_data(content["data"], working_folders)
        config = DictConfig(content)
        # All names are checked before any of them is imported.
        _check_targets(content, "", trust.check_name)
        _check_targets(content, "", trust.find_target)
        _check_data(content["data"], "data")
    except UserError as error:
        raise UserError(f"{option}={folder}: {NAME}: {error}") from None
    if ids_file(folder).exists():
        # The working folder may be another one than that of the training, and the project may have moved.
        config.tracking.uri = read_ids(folder)["uri"]
    else:
        config.tracking.uri = with_password(str(config.tracking.get("uri")))
    check_store(str(config.tracking.uri), folder / NAME)
    check_location(config.tracking.get("artifact_location"), folder / NAME)
    # Only a resumed run registers its model. All other commands do not read these options.
    if option == "resume":
        check_registration(config.tracking.get("register"), config.tracking.get("alias"), folder / NAME)
    config["resume"] = None
    return config


def _working_folders(addresses: Any, folder: Path) -> list[Path]:
    """Return where the folder may be that a run was started in, the likely one first. Earlier versions wrote none."""
    if addresses is None:
        return []
    names = ("relative", "absolute")
    if not isinstance(addresses, dict) or not all(isinstance(addresses.get(name), str) for name in names):
        raise UserError(f"{WORKING_FOLDER}: expected the addresses {' and '.join(names)}.")
    beside = Path(os.path.normpath(folder.resolve() / addresses["relative"]))
    return [beside, Path(addresses["absolute"])]


def _find_data(node: Any, working_folders: Sequence[Path]) -> None:
    """Replace the relative paths of roots and caches by paths that lead to the same folders from the present one."""
    if isinstance(node, list):
        for child in node:
            _find_data(child, working_folders)
    if not isinstance(node, dict):
        return
    for child in node.values():
        _find_data(child, working_folders)
    for name in ("root", "cache"):
        if not isinstance(node.get(name), str):
            continue
        existing = [place / node[name] for place in working_folders if is_there(place / node[name])]
        if existing:
            node[name] = str(seen_from_here(existing[0]))


def with_current_names(options: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a configuration, or options by their dotted names, as a run of this version would write it."""
    current = {}
    for name, value in options.items():
        group, dot, rest = str(name).partition(".")
        removed = REMOVED.get(group, ())
        if rest in removed:
            continue
        if removed and isinstance(value, dict):
            value = {option: content for option, content in value.items() if option not in removed}
        renamed = RENAMED_GROUPS.get(group)
        current[name if renamed is None else f"{renamed}{dot}{rest}"] = value
    return _with_current_targets(current)


def _with_current_targets(node: Any) -> Any:
    """Return a copy of a part of a configuration in which the targets of version 0.1 have their current names."""
    if isinstance(node, list):
        return [_with_current_targets(item) for item in node]
    if not isinstance(node, dict):
        return node
    current = {}
    for name, value in node.items():
        is_target = str(name).rpartition(".")[2] == "_target_"
        current[name] = _current_target(value) if is_target else _with_current_targets(value)
    return current


def _current_target(target: Any) -> Any:
    if isinstance(target, str):
        for before, now in MOVED.items():
            if target.startswith(before):
                return now + target.removeprefix(before)
    return target


def _read_text(path: Path) -> str:
    """Return the text of an ordinary file of usual size."""
    try:
        return read_file(path, _MAX_BYTES).decode()
    except UnicodeDecodeError:
        raise UserError("not text in UTF-8; expected the configuration of a run.") from None


def parse_yaml(text: str) -> DictConfig:
    """Parse YAML with a mapping of plain values.

    Raises a `UserError` if the text is anything else.
    """
    import yaml  # type: ignore[import-untyped]
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        _check_events(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        config = OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OverflowError, RecursionError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"cannot be read as YAML ({trust.printable(lines[0])}).") from None
    if not isinstance(config, DictConfig):
        raise UserError("a list; expected the options of a run.")
    return config


def _check_events(events: Iterable[Any]) -> None:
    """Refuse YAML that does more than name values, before it is parsed.

    Anchors can multiply without end, tags name classes, and interpolations call functions.
    """
    import yaml

    depth = 0
    for event in events:
        if getattr(event, "anchor", None) is not None:
            raise UserError("holds a YAML anchor; expected plain values.")
        if getattr(event, "tag", None) is not None:
            raise UserError(f"holds the YAML tag {trust.printable(event.tag)}; expected plain values.")
        value = event.value if isinstance(event, yaml.ScalarEvent) else ""
        if "${" in value:
            raise UserError(f"holds the interpolation {trust.printable(value)}; expected plain values.")
        if value == "???":
            raise UserError("holds an option without a value (???); expected a value.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise UserError(f"holds more than {_MAX_DEPTH} mappings and lists inside of each other.")


def _check_groups(content: Mapping[Any, Any]) -> None:
    """Refuse a configuration without the groups that every run has."""
    for name in ("seed", *_GROUPS, *PARTS):
        if name not in content:
            raise UserError(f"has no {name}; expected the configuration of a run.")
    parts = [*PARTS, *(name for name in OPTIONAL_PARTS if name in content)]
    for name in (*parts, *_GROUPS):
        if not isinstance(content[name], dict):
            raise UserError(f"{name}: expected options, found {trust.printable(content[name])}.")
    for name in parts:
        if "_target_" not in content[name]:
            raise UserError(f"{name}: has no _target_; expected the function or the class that it is.")
    if not isinstance(content["data"].get("folds"), dict):
        raise UserError("data.folds: expected the folds of train, val and test.")


def _check_targets(node: Any, key: str, check: Callable[[Any, str], object]) -> None:
    """Refuse targets that their options do not accept.

    Parameters
    ----------
    key : str
        Dotted name of the option that `node` belongs to.
    check : callable
        (target, key) -> raises a `UserError` whose message begins with the target.
    """
    if isinstance(node, list):
        for number, item in enumerate(node):
            _check_targets(item, f"{key}.{number}", check)
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        try:
            check(node["_target_"], key)
        except UserError as error:
            raise UserError(f"{key}._target_={error}" if key else f"_target_={error}") from None
    for name in _SPECIAL:
        if name in node and not trust.is_trusted(node.get("_target_")):
            raise UserError(f"{key}.{name}: expected only beside a target of a trusted module.")
    if not isinstance(node.get("_partial_", True), bool):
        raise UserError(f"{key}._partial_={trust.printable(node['_partial_'])}: expected true or false.")
    for name, value in node.items():
        _check_targets(value, f"{key}.{name}" if key else str(name), check)


def _check_data(node: Any, key: str) -> None:
    """Refuse a source that would write outside of the working folder, or send requests to an unknown server.

    Records may be read from anywhere, as nothing about them leaves this machine.
    """
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        children = node.items()
    elif isinstance(node, list):
        children = enumerate(node)
    for name, value in children:
        _check_data(value, f"{key}.{name}")

    if isinstance(node, str) and "://" in node and node not in MIRRORS and not is_trusted_address(node):
        raise UserError(
            f"{key}={trust.printable(node)}: add --trust {trust.printable(node)} if it may be asked for records."
        )
    if not isinstance(node, dict):
        return
    cache = node.get("cache")
    if isinstance(cache, str) and not _may_hold_stores(Path(cache)):
        raise UserError(
            f"{key}.cache={trust.printable(cache)}: expected a folder that holds stores, or one in the working folder; "
            f"make {trust.printable(Path(cache) / 'stores')} if packed records may be written there."
        )
    root = Path(str(node.get("root")))
    fold_file = node.get("fold_file")
    # A new fold file begins with the name of a column, which a stranger could choose so that a shell runs it.
    if fold_file is not None and not _may_hold_folds(root / str(fold_file)):
        raise UserError(
            f"{key}.fold_file={trust.printable(fold_file)}: expected a file that is there, or one in the working "
            "folder whose name ends in .csv."
        )
    if node.get("download") and not (root.is_dir() or is_in_working_folder(root)):
        raise UserError(
            f"{key}.root={trust.printable(root)}: expected a folder that is there, or one in the working folder; "
            f"make it if records may be downloaded to it."
        )


def _may_hold_folds(file: Path) -> bool:
    return file.is_file() or (file.suffix == ".csv" and is_in_working_folder(file))


def _may_hold_stores(cache: Path) -> bool:
    return is_in_working_folder(cache) or any((cache / name).is_dir() for name in ("stores", "packs"))
