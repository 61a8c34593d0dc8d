"""The record files that a user names: files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from einthoven.data.formats.reading import RECORD_SUFFIXES, TABLE_SUFFIXES
from einthoven.errors import UserError


def expand(names: Sequence[str]) -> list[Path]:
    """The record files that names, folders and patterns stand for, each once, in order.

    Raises
    ------
    UserError
        If a folder or a pattern holds none.
    """
    out: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in RECORD_SUFFIXES)
        elif not path.exists() and glob.has_magic(name):
            found = sorted(Path(file) for file in glob.glob(name, recursive=True))  # noqa: PTH207 (a pattern may be absolute)
        else:
            found = [path]
        if not found:
            kind = "folder" if path.is_dir() else "pattern"
            raise UserError(
                f"{name}: this {kind} holds no record; expected files such as {', '.join(RECORD_SUFFIXES)}"
                f"{_tables(path) if path.is_dir() else ''}."
            )
        out.update(dict.fromkeys(found))
    return list(out)


def _tables(folder: Path) -> str:
    """How to name the tables of a folder, which may be records or something else."""
    table = next((file for suffix in TABLE_SUFFIXES for file in sorted(folder.rglob(f"*{suffix}"))), None)
    return f", or tables by a pattern: '{table.parent / f'*{table.suffix}'}'" if table else ""
