"""Opening the files of a record: ordinary files alone, no larger than they may be, and never outside its folder."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from einthoven.data.channels import shown
from einthoven.errors import UserError

# a pipe in place of a file does not keep us waiting, and a symbolic link is seen before it is followed
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST_NAME = 255


def open_file(path: str, flags: int = 0) -> tuple[int, int]:
    """Descriptor and size in bytes of an ordinary file.

    Raises
    ------
    OSError
        If it cannot be opened, or is a folder, a pipe or a device.
    """
    descriptor = os.open(path, _FLAGS | flags)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status.st_size
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "not an ordinary file")


def open_inside(folder: str, name: str, named_in: str) -> tuple[int, int]:
    """Open `name`, a file's name that stands in another file (`named_in`): it has to lie in `folder`.

    `folder` ends with a slash, or is empty for the folder one is in.

    A symbolic link is followed where what it names lies in the folder, too. The folder itself may be a link.

    Raises
    ------
    UserError
        If the name leads out of the folder, or the file cannot be opened.
    """
    if name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise UserError(
            f"{named_in}: file {shown(name)} lies outside the record's folder; expected the name of a file in it."
        )
    if len(name) > _LONGEST_NAME:
        raise UserError(f"{named_in}: file {shown(name)} named; expected a name of at most {_LONGEST_NAME} characters.")
    path = f"{folder}{name}"
    try:
        return open_file(path, os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise UserError(f"{path}: cannot be read ({reason(error)}), though {named_in} names it.") from None
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(folder)):
        raise UserError(
            f"{path}: a symbolic link that leads outside the record's folder; expected a file in it, as {named_in} "
            "names it."
        )
    try:
        return open_file(real, os.O_NOFOLLOW)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}), though {named_in} names it.") from None


def read_bytes(descriptor: int, size: int, offset: int = 0) -> bytes:
    """`size` bytes from `offset` on, fewer where the file ends before."""
    data = os.pread(descriptor, size, offset)
    if len(data) == size:
        return data
    parts = [data]  # one call reads 2 GiB at most
    while data and (size := size - len(data)):
        offset += len(data)
        data = os.pread(descriptor, size, offset)
        parts.append(data)
    return b"".join(parts)


def reason(error: Exception) -> str:
    """What went wrong, on one line, without the file's name."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
