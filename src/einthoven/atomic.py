"""Write files and folders atomically: each is complete, or it does not exist.

Something is written in a working folder beside its place, and moved when it is complete. A process holds a lock on its
working folder. The operating system releases the lock when the process ends, however it ends. So a working folder
without a lock is what a killed process has left, and the next process that writes in the same place deletes it.

Processes of other machines may share the place, and some file systems do not show their locks. Their working folders
are deleted only if nobody has written to them for a day.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import socket
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.errors import NO_ROOM, NOT_ALLOWED, UserError

if TYPE_CHECKING:
    from filelock import FileLock

PARTIAL = ".einthoven-partial-"
"""Prefix of the names of working folders."""

ABANDONED_AFTER = 86400.0
"""Seconds without a write after which a working folder of another machine is deleted."""

_LOCK = "lock"

_LOCK_SECONDS = 1.0
"""Seconds that the lock of a new working folder may take. It is free, unless the file system has no locks."""

_WRITE_ERRORS = (*NO_ROOM, *NOT_ALLOWED, errno.EIO, None)

_NO_ROOM_BYTES = 1 << 16
"""A disk with fewer free bytes is full. A library may have written some bytes less than there was room for."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a path for writing a file, and move the file to `path` at the end.

    The file has the name of `path` in a working folder. If an error occurs, it is removed and an existing file at
    `path` stays as it is. Several processes, on one machine or on several, can write the same file at the same time.

    Raises
    ------
    OSError
        If the file cannot be written or moved. The error names `path`.
    """
    with _explained_folder(path.parent, path) as folder:
        partial = folder / path.name
        yield partial
        partial.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 atomically. If it cannot be written, an existing file stays as it is."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def working_folder(parent: Path, mode: int = 0o777) -> Iterator[Path]:
    """Create an empty folder and yield its path. At the end the folder is deleted, unless the block has moved it.

    Folders that killed processes have left in `parent` are deleted first. `mode` are its permissions, as in
    `Path.mkdir`. An OSError names `parent`.
    """
    with _explained_folder(parent, parent, mode) as folder:
        yield folder


@contextmanager
def _explained_folder(parent: Path, path: Path, mode: int = 0o777) -> Iterator[Path]:
    """Do the work of `working_folder`. Errors name `path`."""
    remove_leftovers(parent)
    outer = parent / f"{PARTIAL}{uuid.uuid4().hex[:16]}-{_machine()}"
    with explain_write(path, outer):
        lock = _create_locked(outer, mode)
        try:
            # The lock is not in the folder that the caller may move.
            folder = outer / "content"
            folder.mkdir(mode)
            yield folder
        finally:
            lock.release()
            shutil.rmtree(outer, ignore_errors=True)


def _create_locked(folder: Path, mode: int) -> FileLock:
    """Create a folder, and return its lock."""
    # This import takes longer than that of this module.
    from filelock import FileLock

    lock = FileLock(folder / _LOCK)
    while True:
        folder.mkdir(mode, exist_ok=True)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except (FileNotFoundError, FileExistsError):
            # Another process has found the folder without a lock, and deletes it.
            continue
        except (OSError, NotImplementedError):
            # A file system without locks is used without them.
            return lock
        if (folder / _LOCK).exists():
            return lock
        lock.release()


def temporary_folder() -> AbstractContextManager[Path]:
    """Return a `working_folder` among the temporary files of the system. Other users cannot read it."""
    return working_folder(Path(tempfile.gettempdir()), mode=0o700)


def remove_leftovers(parent: Path) -> None:
    """Delete the working folders of this user that killed processes have left in a folder. Errors are ignored."""
    with contextlib.suppress(OSError):
        for folder in list(parent.glob(f"{PARTIAL}*")):
            with contextlib.suppress(OSError, NotImplementedError):
                _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    from filelock import FileLock

    state = folder.lstat()
    if state.st_uid != os.getuid() or not stat.S_ISDIR(state.st_mode):
        return
    if not folder.name.endswith(f"-{_machine()}"):
        newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        if time.time() - newest < ABANDONED_AFTER:
            return
    # Raises Timeout, an OSError, if a process has the lock.
    with FileLock(folder / _LOCK).acquire(blocking=False):
        shutil.rmtree(folder, ignore_errors=True)
    # On a network file system, the lock file stays until it is closed.
    folder.rmdir()


@cache
def _machine() -> str:
    """Return a short name of this machine since its last start. Containers of one machine share it, and the locks."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        identity = socket.gethostname()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


@contextmanager
def explain_write(path: Path, temporary: Path) -> Iterator[None]:
    """Give an error of the block that means that nothing can be written the name of the file that was wanted.

    The error of a full disk names no file. NumPy raises it without a number, torch and safetensors as an error of their
    own. The user knows the name `path`. It becomes the file name of an OSError that belongs to `temporary`, its name
    until it is complete, or to no file.
    """
    try:
        yield
    except OSError as error:
        name = error.filename2 or error.filename
        is_other_file = name is not None and not Path(os.fsdecode(name)).is_relative_to(temporary)
        if is_other_file or error.errno not in _WRITE_ERRORS:
            raise
        number = error.errno
        reason = error.strerror or str(error)
        if number is None and _is_full(temporary.parent):
            number = errno.ENOSPC
            reason = os.strerror(number)
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
