"""The record files that a user names by files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from einthoven.data.formats.inputs import CONTAINER_SUFFIXES
from einthoven.data.formats.reading import RECORD_SUFFIXES, TABLE_SUFFIXES
from einthoven.errors import UserError
from einthoven.terminal.display import warn


def expand(names: Sequence[str]) -> list[Path]:
    """Return the record files of names, folders and patterns, in order and without duplicates.

    HDF5 files of a folder are left out, because each can contain many records. So are its tables, because a table can
    be something else than a record. A warning says so. Raises a `UserError` if a folder or a pattern contains no
    record.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            files_in_folder = sorted(path.rglob("*"))
            matches = [file for file in files_in_folder if _is_record(file)]
            _warn_left_out(name, files_in_folder, has_records=bool(matches))
        elif not path.exists() and glob.has_magic(name):
            matches = sorted(Path(file) for file in glob.glob(name, recursive=True))  # noqa: PTH207 (a pattern may be absolute)
        else:
            matches = [path]
        if not matches:
            kind = "folder" if path.is_dir() else "pattern"
            advice = _table_advice(path) if path.is_dir() else ""
            raise UserError(
                f"{name}: this {kind} holds no record; expected files such as {', '.join(RECORD_SUFFIXES)}{advice}."
            )
        files += matches
    return list(dict.fromkeys(files))


def _is_record(file: Path) -> bool:
    """Decide whether a file of a folder is a record. A ``.mat`` is one if an ``.info`` and no header is beside it."""
    suffix = file.suffix.lower()
    if suffix == ".mat":
        return file.with_suffix(".info").is_file() and not file.with_suffix(".hea").is_file()
    return suffix in RECORD_SUFFIXES


def _warn_left_out(folder: str, files: Sequence[Path], *, has_records: bool) -> None:
    """Say which files of a folder may contain records and are not read."""
    containers = [file for file in files if file.suffix.lower() in CONTAINER_SUFFIXES]
    if containers:
        warn(
            f"{folder}: HDF5 files are not read from a folder ({len(containers):,} found), because each can contain "
            f"many records; name a file or a record, such as {containers[0]} or {containers[0]}/RECORD."
        )
    tables = [file for file in files if file.suffix.lower() in TABLE_SUFFIXES]
    # Without any record, the refusal of the folder says how tables are named.
    if tables and has_records:
        warn(
            f"{folder}: tables are not read from a folder ({len(tables):,} found), because a table can be something "
            f"else than a record; name those that are records, such as {_pattern(tables[0])}."
        )


def _pattern(table: Path) -> str:
    """Return a pattern for the tables beside a table, in quotation marks, so that the shell keeps it as it is."""
    return f"'{table.parent / f'*{table.suffix}'}'"


def _table_advice(folder: Path) -> str:
    """Return a pattern for the tables of a folder. Tables may be no records, so that they have to be named."""
    for suffix in TABLE_SUFFIXES:
        tables = sorted(folder.rglob(f"*{suffix}"))
        if tables:
            return f", or tables by a pattern: {_pattern(tables[0])}"
    return ""
