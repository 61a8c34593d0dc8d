"""Write the files of a request into a private folder, under names that cannot lead out of it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from einthoven.errors import UserError

FILES_LIMIT = 64
"""A request may contain this many files: a header and a signal file for each segment of a record."""

NAME_LIMIT = 240
"""Longest name of a file in bytes. File systems take 255 bytes."""

_UNSAFE = re.compile(r"[^\w .()+-]")


class TooLargeError(UserError):
    """A request contains more bytes than `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit / 1e6:g} MB found; expected less (einthoven app --max-size).")


def _safe_name(name: str) -> str:
    """Return the last part of a file name, without characters that a file system or a terminal could interpret.

    A name that is too long, or has no other character, is refused.
    """
    last_part = re.split(r"[/\\]", name)[-1]
    safe = _UNSAFE.sub("_", last_part).lstrip(". ").rstrip()
    size = len(os.fsencode(safe))
    if not 1 <= size <= NAME_LIMIT:
        raise UserError(f"a file name of {size} bytes found; expected 1 to {NAME_LIMIT}.")
    return safe


async def save(
    chunks: AsyncIterator[bytes], names: Sequence[str], sizes: Sequence[int], folder: Path, limit: int
) -> None:
    """Write the files of a request, whose bytes follow each other in its body.

    Parameters
    ----------
    chunks : async iterator of bytes
        The body of the request.
    names : sequence of str
        Names of the files.
    sizes : sequence of int
        Bytes of each file except the last one, which gets the rest.
    folder : Path
    limit : int
        Largest number of bytes of all files together.

    Raises
    ------
    TooLargeError
        As soon as there are more bytes than that.
    UserError
        If names and sizes do not fit together, a name is empty or too long, or a file is not complete.
    """
    files = [_safe_name(name) for name in names]
    distinct_names = {name.lower() for name in files}
    if not 1 <= len(files) <= FILES_LIMIT or len(distinct_names) < len(files):
        raise UserError(f"{len(files)} files found; expected 1 to {FILES_LIMIT}, each with a name of its own.")
    if len(sizes) != len(files) - 1 or any(size < 0 for size in sizes):
        raise UserError(f"{len(sizes)} sizes of {len(files)} files found; expected those of all but the last.")
    with tempfile.TemporaryFile(dir=folder) as body:
        length = 0
        async for chunk in chunks:
            length += len(chunk)
            if length > limit:
                raise TooLargeError(limit)
            body.write(chunk)
        if sum(sizes) > length:
            raise UserError(f"{length} bytes found; expected {sum(sizes)} or more: the upload is not complete.")
        body.seek(0)
        all_sizes = [*sizes, length - sum(sizes)]
        for name, size in zip(files, all_sizes, strict=True):
            (folder / name).write_bytes(body.read(size))
