"""Which files a record is made of, and whether they are still the ones that were read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from einthoven.data.formats.wfdb_header import Header, read_header, read_segment_header
from einthoven.errors import UserError


def short_digest(data: bytes) -> bytes:
    """Half of a SHA-256, without zeros at its end: numpy's byte strings (``S16``) do not keep those."""
    return hashlib.sha256(data).digest()[:16].rstrip(b"\0")


def main_file(record: str | Path) -> str:
    """The file by which a record is known: the header of a WFDB record, else the file itself."""
    path = os.fspath(record)
    stem, dot, suffix = path.rpartition(".")
    if dot and suffix == "hea":
        return path
    if dot and (suffix == "dat" or (suffix == "mat" and os.path.isfile(f"{stem}.hea"))):  # noqa: PTH113
        return f"{stem}.hea"
    return path if os.path.isfile(path) else f"{path}.hea"  # noqa: PTH113 (a hundred thousand of these an opening)


def other_files(main: str) -> str:
    """Names of the further files of a record, joined by ``/``; ``*`` stands for the stem that they share with `main`.

    A WFDB header names its signal files and segments; beside another file may stand a ``.json`` that describes it.
    """
    if not main.endswith(".hea"):
        return "*.json"
    try:
        header = read_header(main)
        segments = dict.fromkeys(name for name, _ in header.segments if name != "~")
        parts: list[Header] = [header, *(read_segment_header(header, name) for name in segments)]
    except UserError:  # reading the record says what is wrong
        return ""
    names = dict.fromkeys(part.name for part in parts[1:])
    names |= dict.fromkeys(file for part in parts for file in part.files)
    stem = os.path.basename(main)[: -len(".hea")]  # noqa: PTH119
    return "/".join(f"*{name.removeprefix(stem)}" if name.startswith(stem) else name for name in names)


def file_state(main: str) -> bytes:
    """Sixteen bytes that change when a file may have changed: path, size, and times of content and of inode.

    The last of these cannot be set by hand: a file that was replaced by another of its size and time is noticed.
    """
    return short_digest(_status(main))


def other_files_state(main: str, others: str) -> bytes:
    """`file_state` of the further files of a record, together."""
    folder, slash, name = main.rpartition("/")
    stem = name.rpartition(".")[0]
    text = b"".join(
        _status(f"{folder}{slash}{f'{stem}{other[1:]}' if other[:1] == '*' else other}") for other in others.split("/")
    )
    return short_digest(text)


def _status(path: str) -> bytes:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return os.fsencode(f"{path}\0-\n")
    return os.fsencode(f"{path}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n")
