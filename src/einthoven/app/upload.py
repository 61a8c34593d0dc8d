"""The bytes of a request -> files in a private folder, with names that lead nowhere."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from einthoven.errors import UserError

MOST_FILES = 64  # a header and a signal file for each segment of a record
LONGEST_NAME = 240  # bytes; 255 are what file systems take
_UNSAFE = re.compile(r"[^\w .()+-]")


class TooLargeError(UserError):
    """More bytes than a request may have."""


def safe_name(name: str) -> str:
    """The last part of a file's name, without anything that a file system or a terminal could take for more.

    Raises
    ------
    UserError
        If nothing is left of it, or it is too long.
    """
    safe = _UNSAFE.sub("_", re.split(r"[/\\]", name)[-1]).lstrip(". ").rstrip()
    size = len(os.fsencode(safe))
    if not 1 <= size <= LONGEST_NAME:
        raise UserError(f"a file name of {size} bytes found; expected 1 to {LONGEST_NAME}.")
    return safe


async def save(
    chunks: AsyncIterator[bytes], names: Sequence[str], sizes: Sequence[int], folder: Path, most: int
) -> None:
    """Write the files of a request, which come one after the other.

    Parameters
    ----------
    chunks : async iterator of bytes
    names : sequence of str
        Of the files.
    sizes : sequence of int
        Bytes of each but the last, which is what remains.
    folder : Path
    most : int
        Bytes that are taken of all together.

    Raises
    ------
    TooLargeError
        As soon as there are more.
    UserError
        If names and sizes do not go together, a name is no name, or a file is not complete.
    """
    files = [safe_name(name) for name in names]
    if not 1 <= len(files) <= MOST_FILES or len(set(map(str.lower, files))) < len(files):
        raise UserError(f"{len(files)} files found; expected 1 to {MOST_FILES}, each with a name of its own.")
    if len(sizes) != len(files) - 1 or any(size < 0 for size in sizes):
        raise UserError(f"{len(sizes)} sizes of {len(files)} files found; expected those of all but the last.")
    with tempfile.TemporaryFile(dir=folder) as body:
        length = 0
        async for chunk in chunks:
            length += len(chunk)
            if length > most:
                raise too_large(most)
            body.write(chunk)
        if sum(sizes) > length:
            raise UserError(f"{length} bytes found; expected {sum(sizes)} or more: the upload is not complete.")
        body.seek(0)
        for name, size in zip(files, [*sizes, length - sum(sizes)], strict=True):
            (folder / name).write_bytes(body.read(size))


def too_large(most: int) -> TooLargeError:
    """The sentence for whoever sends too much."""
    return TooLargeError(f"more than {most / 1e6:g} MB found; expected less (einthoven app --max-size).")
