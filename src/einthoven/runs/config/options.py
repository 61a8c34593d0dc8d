"""The options of a run as plain names and values: for its folder, for MLflow, and for its hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.atomic import write_text
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.server import address_to_store

if TYPE_CHECKING:
    from omegaconf import DictConfig

WORKING_FOLDER = "working_folder"
"""Key of ``config.yaml`` with the two addresses of the folder that the run was started in."""

NOT_LOGGED = ("tracking.", "figure.", "advice.", "explanation.")
"""Groups that do not change what is trained."""

NOT_HASHED = (".root", ".cache", "task.teacher", "init_from")
"""Ends of options that say where data and models are kept. They do not change the results."""


def plain_options(config: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration as plain containers, without the options that only Hydra needs."""
    from omegaconf import OmegaConf

    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items() if key not in ("hydra", "resume", "again")}


def editable_copy(config: DictConfig) -> DictConfig:
    """Return a copy of a configuration that can be changed, also by new options."""
    from omegaconf import OmegaConf

    copy = config.copy()
    OmegaConf.set_readonly(copy, False)
    OmegaConf.set_struct(copy, False)
    return copy


def write_config(config: DictConfig, folder: Path) -> None:
    """Write the resolved configuration to ``config.yaml`` in the folder of a run.

    The file also names the working folder, so that relative paths in it can be used from another one. The relative
    address of the working folder stays true in a project that moves.
    """
    from omegaconf import OmegaConf

    folder.mkdir(parents=True, exist_ok=True)
    addresses = {"relative": os.path.relpath(Path.cwd(), folder.resolve()), "absolute": str(Path.cwd())}
    content = {**plain_options(config), WORKING_FOLDER: addresses}
    content["tracking"]["uri"] = address_to_store(content["tracking"]["uri"])
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(content)))


def logged_options(container: Mapping[str, Any]) -> dict[str, object]:
    """Return the options of the training by their dotted names, without folders of the user."""
    options: dict[str, object] = {}
    for name, value in flatten(container):
        if not name.startswith(NOT_LOGGED):
            options[name] = _without_folders(value)
    return options


def _without_folders(value: object) -> object:
    """Shorten the folders in a text, and in each text of a list."""
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return value


def logged_yaml(container: Mapping[str, Any]) -> str:
    """Return `logged_options` as YAML."""
    from omegaconf import OmegaConf

    tree: dict[str, Any] = {}
    for name, value in logged_options(container).items():
        *groups, last = name.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[last] = value
    return OmegaConf.to_yaml(OmegaConf.create(tree))


def hashed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the `logged_options` that results depend on. They are the same wherever the data are kept."""
    return {name: value for name, value in options.items() if not name.endswith(NOT_HASHED)}


def config_hash(container: Mapping[str, Any]) -> str:
    """Return twelve hex digits that identify a configuration, wherever its data and runs are kept."""
    text = json.dumps(hashed_options(logged_options(container)), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def flatten(container: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each option of nested groups."""
    for key, value in container.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
