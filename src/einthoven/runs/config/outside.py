"""Modules outside of this package that a configuration names, and the hash of their source."""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.build import iterate_values

if TYPE_CHECKING:
    from omegaconf import DictConfig

_RECORDED = {"einthoven", "torch"}
"""Packages whose source or version is recorded anyway."""


def outside_modules(config: DictConfig) -> tuple[str, ...]:
    """Return the top-level modules outside of this package that the targets of a configuration come from."""
    targets = [str(value) for key, value in iterate_values(config) if key.rpartition(".")[2] == "_target_"]
    return tuple(sorted({target.partition(".")[0] for target in targets} - _RECORDED))


# A process imports a module only once, so that the hash is computed once, too.
@cache
def source_hash(modules: tuple[str, ...]) -> str:
    """Return the SHA-256 of the source of modules, and of the modules that they import from the same folder.

    Every Python file of a package counts. Installed packages do not count, nor what is imported by other means than
    ``import``.
    """
    files: dict[str, Path] = {}
    for module in modules:
        _add_files(module, None, files)
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _add_files(module: str, folder: Path | None, files: dict[str, Path]) -> None:
    """Add the files of a top-level module by their names. If a folder is given, the module must be in it."""
    location = _find_files(module)
    if location is None:
        return
    place, paths = location
    if folder is not None and folder != place:
        return
    for path in paths:
        name = path.relative_to(place).as_posix()
        if name in files:
            continue
        files[name] = path
        if not _is_installed(place):
            for imported in _imported_modules(path):
                _add_files(imported, place, files)


def _find_files(module: str) -> tuple[Path, list[Path]] | None:
    """Return the folder in which Python finds a top-level module, and its files; None if it has no files."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    packages = [Path(place) for place in spec.submodule_search_locations or ()]
    if packages:
        return packages[0].parent, [path for package in packages for path in sorted(package.rglob("*.py"))]
    if spec.origin is None or not Path(spec.origin).is_file():
        return None
    return Path(spec.origin).parent, [Path(spec.origin)]


def _imported_modules(path: Path) -> Iterator[str]:
    """Yield the top-level modules that a file imports."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def _is_installed(folder: Path) -> bool:
    """Return whether a folder is that of installed packages, or of Python itself."""
    places = (sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib"))
    return folder.resolve() in {Path(place).resolve() for place in places}
