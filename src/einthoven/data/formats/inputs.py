"""Find the files of a record, and detect whether they changed since they were read.

Opening a store calls these functions for every record. Paths are strings here, because `pathlib` would be slower.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from einthoven.data.formats.wfdb_header import Header, header_file, read_header, read_segment_header
from einthoven.errors import UserError
from einthoven.files import name_in_folder


def short_digest(data: bytes) -> bytes:
    """Return the first 16 bytes of the SHA-256, without zeros at the end.

    NumPy's byte strings (``S16``) do not keep zeros at the end.
    """
    return hashlib.sha256(data).digest()[:16].rstrip(b"\0")


CONTAINER_SUFFIXES = (".hdf5", ".h5")
"""Suffixes of files that can contain many records. One of them is named as if the file were a folder."""


def container_file(record: str | Path) -> str | None:
    """Return the file that contains a record, for a name such as ``exams_part0.hdf5/590673``; None for other names."""
    folder, slash, _ = os.fspath(record).rpartition("/")
    is_name = slash and folder.lower().endswith(CONTAINER_SUFFIXES) and os.path.isfile(folder)  # noqa: PTH113
    return folder if is_name else None


def record_name(record: str | Path) -> str:
    """Return the name of a record for messages: of the file, or of the file that contains it and of the record."""
    path = Path(record)
    return path.name if container_file(path) is None else f"{path.parent.name}/{path.name}"


def sidecar_file(record: str | Path) -> Path:
    """Return the file that can state the metadata of a record. All records of one file share it."""
    return Path(container_file(record) or record).with_suffix(".json")


def record_exists(record: str | Path) -> bool:
    """Decide whether the main file of a record, or the file that contains it, exists."""
    return container_file(record) is not None or os.path.isfile(main_file(record))  # noqa: PTH113


def main_file(record: str | Path) -> str:
    """Return the main file of a record: the header of a WFDB record, or the file itself in other formats."""
    path = os.fspath(record)
    if container_file(path) is not None:
        return path
    header = header_file(path)
    if header == path or os.path.isfile(header):  # noqa: PTH113
        return header
    return path if os.path.isfile(path) else header  # noqa: PTH113


def other_files(main: str) -> str:
    """Return the names of the other files of a record, joined by ``/``.

    A WFDB header names its signal files and segments. Any other file can have a sidecar (``.json``), and a ``.mat`` an
    ``.info``. A ``*`` replaces the stem of `main`, so that all records of a corpus have the same short text.
    """
    if not main.lower().endswith(".hea"):
        return "*.json/*.info" if main.lower().endswith(".mat") else "*.json"

    # If a header cannot be read, the reader of the record reports the error.
    try:
        header = read_header(main)
        segments = dict.fromkeys(name for name, _ in header.segments if name != "~")
        headers: list[Header] = [header, *(read_segment_header(header, name) for name in segments)]
    except UserError:
        return ""

    # A dict keeps the order and drops repetitions.
    names = dict.fromkeys(segment.name for segment in headers[1:])
    for part in headers:
        # All signals of a segment are usually in one file, so that it is searched once.
        names |= dict.fromkeys(name_in_folder(part.folder, file) for file in dict.fromkeys(part.files))
    stem = os.path.basename(main)[: -len(".hea")]  # noqa: PTH119
    return "/".join(f"*{name.removeprefix(stem)}" if name.startswith(stem) else name for name in names)


def file_state(main: str) -> bytes:
    """Return a short digest of the path, size, modification time and inode change time of a file.

    The digest changes if the file may have changed. The inode change time cannot be set by a user, so that a
    replacement of the same size and modification time is detected, too.
    """
    return short_digest(_describe_state(main))


def other_files_state(main: str, others: str) -> bytes:
    """Return one digest of the state of the other files of a record.

    Parameters
    ----------
    main : str
        The main file.
    others : str
        The result of `other_files`.
    """
    main = container_file(main) or main
    folder, slash, name = main.rpartition("/")
    stem = name.rpartition(".")[0]
    states = []
    for other in others.split("/"):
        file = f"{stem}{other[1:]}" if other[:1] == "*" else other
        states.append(_describe_state(f"{folder}{slash}{file}"))
    return short_digest(b"".join(states))


def _describe_state(path: str) -> bytes:
    try:
        status = os.stat(container_file(path) or path)  # noqa: PTH116
    except OSError:
        return os.fsencode(f"{path}\0-\n")
    return os.fsencode(f"{path}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n")
