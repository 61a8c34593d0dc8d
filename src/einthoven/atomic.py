"""Write files atomically: a file is complete, or it does not exist.

A file is written under a temporary name in the same folder. It is renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from einthoven.errors import NO_ROOM, NOT_ALLOWED, UserError

PARTIAL = ".partial-"
"""Prefix of the name of an incomplete file."""

_WRITE_ERRORS = (*NO_ROOM, *NOT_ALLOWED, errno.EIO, None)

_NO_ROOM_BYTES = 1 << 16
"""A disk with fewer free bytes is full. A library may have written some bytes less than there was room for."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path for writing, and rename it to `path` at the end.

    The temporary name has the suffix of `path`. If an error occurs, the temporary file is removed and an existing
    file at `path` stays as it is. Several processes, on one machine or on several, can write the same file at the
    same time.

    Raises
    ------
    OSError
        If the file cannot be written or renamed. The error names `path`.
    """
    partial = path.with_name(f"{PARTIAL}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        with explain_write(path, partial):
            yield partial
            partial.replace(path)
    finally:
        # A folder that cannot be written contains no such file.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def explain_write(path: Path, temporary: Path) -> Iterator[None]:
    """Give an error of the block that means that nothing can be written the name of the file that was wanted.

    The error of a full disk names no file. NumPy raises it without a number, torch and safetensors as an error of
    their own.

    Parameters
    ----------
    path : Path
        The file or folder that the block writes. The user knows its name.
    temporary : Path
        Its name until it is complete.

    Raises
    ------
    OSError
        With `path` as its file name, if the error belongs to `temporary` or to no file.
    """
    try:
        yield
    except OSError as error:
        name = error.filename2 or error.filename
        is_other_file = name is not None and not Path(os.fsdecode(name)).is_relative_to(temporary)
        if is_other_file or error.errno not in _WRITE_ERRORS:
            raise
        number = error.errno
        if number is None and _is_full(temporary.parent):
            number = errno.ENOSPC
        reason = str(error) if number is None else os.strerror(number)
        raise OSError(number, reason, str(path)) from error
    except UserError:
        raise
    except Exception as error:
        if not _is_full(temporary.parent):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _is_full(folder: Path) -> bool:
    """Return whether the disk of a folder has no room."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _NO_ROOM_BYTES


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 atomically.

    Raises
    ------
    OSError
        If the file cannot be written. An existing file stays as it is.
    """
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")
