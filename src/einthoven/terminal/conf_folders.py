"""Folders of the configuration: that of this package, and those of the user that a command names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from einthoven.command_line import option
from einthoven.errors import UserError

_FLAGS = ("--config-dir", "-cd")
_SEARCHPATH = "hydra.searchpath"


def conf_folder() -> Path:
    """Return the configuration folder of this package: inside of it, or at the top of the checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def conf_folders(conf: Path, arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Folders in which options are looked for, and the arguments that name none of them.

    Parameters
    ----------
    conf : Path
        The folder of this package, which comes first, as for Hydra.
    arguments : sequence of str
        As on the command line: ``hydra.searchpath=[file://my_conf]`` and ``--config-dir my_conf`` name folders.

    Raises
    ------
    UserError
        If one of the folders is not there.
    """
    folders = [conf]
    others = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in _FLAGS:
            folders.append(Path(value if equals else next(rest, "")))
        elif name.lstrip("+") == _SEARCHPATH:
            folders += _searched(argument)
        else:
            others.append(argument)
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected one with folders of options, such as model/.")
    return folders, others


def as_option(folders: Sequence[Path]) -> list[str]:
    """The option that names folders beside that of this package; none where there are none."""
    if not folders:
        return []
    quoted = [option("", f"file://{folder.absolute()}").removeprefix("=") for folder in folders]
    return [f"{_SEARCHPATH}=[{','.join(quoted)}]"]


def option_files(folders: Sequence[Path], group: str) -> dict[str, Path]:
    """The file of each option of a group, by name; of two with one name, that of the first folder."""
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / group).glob("*.yaml")):
            files.setdefault(path.stem, path)
    return files


def _searched(argument: str) -> list[Path]:
    """Folders of a search path; one that Hydra cannot read is left to Hydra's own sentence."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return []
    addresses = value if isinstance(value, list) else [value]
    found = []
    for address in map(str, addresses):
        kind, mark, path = address.partition("://")
        if kind == "pkg":
            found += _package_folders(path)
        else:
            found.append(Path(path if mark else address))
    return found


def _package_folders(path: str) -> list[Path]:
    """Folders of a path inside of a package, with dots or slashes."""
    package, *inside = path.replace("/", ".").split(".")
    spec = find_spec(package) if package else None
    places = (spec.submodule_search_locations or ()) if spec else ()
    return [Path(place, *inside) for place in places]
