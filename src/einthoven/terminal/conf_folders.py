"""Folders of the configuration: the one of this package, and those of the user that a command names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.command_line import option
from einthoven.errors import UserError

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

_FLAGS = ("--config-dir", "-cd")
_SEARCHPATH = "hydra.searchpath"


def conf_folder() -> Path:
    """Return the configuration folder of this package: inside of it, or at the top of the checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def conf_folders(conf: Path, arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Split the folders in which options are searched from the other words of a command.

    ``hydra.searchpath=[file://my_conf]`` and ``--config-dir my_conf`` name folders, which must exist. The one of this
    package comes first, as in Hydra.
    """
    folders = [conf]
    others = []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name in _FLAGS:
            folders.append(Path(value if equals else next(remaining, "")))
        elif name.lstrip("+") == _SEARCHPATH:
            folders += _search_path(argument)
        else:
            others.append(argument)
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected one with folders of options, such as model/.")
    return folders, others


def composed_folders(hydra: HydraConf) -> list[Path]:
    """Return the folders that a configuration was composed from, the one of this package first."""
    folders = []
    for source in hydra.runtime.config_sources:
        if source.schema == "file":
            folders.append(Path(source.path))
        elif source.schema == "pkg" and source.provider != "hydra":
            folders += _package_folders(source.path)
    return folders


def as_option(folders: Sequence[Path]) -> list[str]:
    """Return the Hydra option that names folders beside the one of this package; an empty list without folders."""
    if not folders:
        return []
    addresses = [option("", f"file://{folder.absolute()}").removeprefix("=") for folder in folders]
    return [f"{_SEARCHPATH}=[{','.join(addresses)}]"]


def option_files(folders: Sequence[Path], group: str) -> dict[str, Path]:
    """Return the file of each option of a group, by name. If two folders have an option, the first folder counts."""
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / group).glob("*.yaml")):
            files.setdefault(path.stem, path)
    return files


def load_option(path: Path) -> DictConfig:
    """Read the yaml of an option, without its defaults list.

    Raises a `UserError` if the file cannot be read, or is no mapping with a ``_target_``.
    """
    from omegaconf import DictConfig, OmegaConf
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        option = OmegaConf.load(path)
    except (OSError, ValueError, YAMLError) as error:
        raise UserError(f"{path}: not a readable yaml ({' '.join(str(error).split())}).") from None
    if not isinstance(option, DictConfig) or not ({"_target_", "defaults"} & set(option)):
        raise UserError(f"{path}: has no _target_; expected a mapping that names a function or class.")
    return option


def _search_path(argument: str) -> list[Path]:
    """Return the folders of a search path. Hydra itself reports one that it cannot read, so there are none then."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return []
    addresses = value if isinstance(value, list) else [value]
    folders = []
    for address in map(str, addresses):
        scheme, separator, path = address.partition("://")
        if scheme == "pkg":
            folders += _package_folders(path)
        else:
            folders.append(Path(path if separator else address))
    return folders


def _package_folders(path: str) -> list[Path]:
    """Return the folders of a path inside of a package. The path has dots or slashes."""
    package, *inside = path.replace("/", ".").split(".")
    spec = find_spec(package) if package else None
    places = (spec.submodule_search_locations or ()) if spec else ()
    return [Path(place, *inside) for place in places]
