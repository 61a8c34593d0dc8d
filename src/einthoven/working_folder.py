"""Folders to work in: deleted at the end, and after a kill by the next process that needs one.

The process holds a lock on its folder. The operating system releases the lock when the process ends, however it ends.
So a folder without a lock belongs to no process. Processes of other machines may share the parent folder, and some file
systems do not show their locks. Their folders are deleted only if nobody has written to them for an hour.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from einthoven.atomic import explain_write

SUFFIX = ".partial"
"""Suffix of the names of these folders."""

ABANDONED_AFTER = 3600.0
"""Seconds without a write after which a folder of another machine is deleted."""


@contextmanager
def working_folder(parent: Path, prefix: str = "", mode: int = 0o777) -> Iterator[Path]:
    """Create a folder and yield its path. At the end the folder is deleted, unless the block has renamed it.

    Folders that killed processes have left are deleted first.

    Parameters
    ----------
    parent : Path
    prefix : str
        Begin of the name. Only folders with the same prefix are deleted.
    mode : int
        Permissions, as in `Path.mkdir`.

    Raises
    ------
    OSError
        If the folder cannot be created, or a file in it cannot be written. The error names `parent`.
    """
    remove_leftovers(parent, prefix)
    folder = working_name(parent, prefix)
    with explain_write(parent, folder):
        descriptor = _create_locked(folder, mode)
    try:
        with explain_write(parent, folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def working_name(parent: Path, prefix: str = "") -> Path:
    """Return a new name for a folder that is not finished, or no longer needed."""
    return parent / f"{prefix}{uuid.uuid4().hex[:16]}-{_machine()}{SUFFIX}"


def remove_leftovers(parent: Path, prefix: str = "") -> None:
    """Delete the folders of this user that killed processes have left. Errors are ignored."""
    with contextlib.suppress(OSError):
        for folder in list(parent.iterdir()):
            if folder.name.startswith(prefix) and folder.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(folder)


def _create_locked(folder: Path, mode: int) -> int:
    """Create a folder, and return a descriptor that holds its lock."""
    while True:
        folder.mkdir(mode)
        # Another process may delete the folder before it is locked. Then it is created again.
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        # A file system without locks is used without them.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        os.close(descriptor)


def _remove_if_abandoned(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            return
        # Raises BlockingIOError, an OSError, if a process has the lock.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_of_this_machine = folder.name.endswith(f"-{_machine()}{SUFFIX}")
        newest = max(file.stat().st_mtime for file in (folder, *folder.iterdir()))
        if is_of_this_machine or time.time() - newest > ABANDONED_AFTER:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


@cache
def _machine() -> str:
    """Return a short name of this machine since its last start. Containers of one machine share it, and the locks."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        identity = socket.gethostname()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]
