"""Read files that can be damaged or can come from a stranger.

Only ordinary files are opened, and the number of bytes is limited.

A sealed file contains the SHA-256 of its own content. The hash is computed with `BLANK` in the place of the hash, so
that it covers every byte of the file. A sealed text (see `seal`) is a JSON object whose last entry is the SHA-256 of
the other entries.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tokenize
from collections.abc import Iterable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from einthoven.errors import UserError

BLANK = b"0" * 64
"""These bytes replace the hash while the hash is computed."""

SEAL = "sha256"
"""Name of the last entry of a sealed text."""

BAD_ARRAY_HEADER = (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)
"""Exceptions that NumPy raises for a damaged array header. NumPy parses the header as a Python expression."""

# With O_NONBLOCK, opening a pipe returns at once. Without it, the reader would wait for a writer.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_NAME_LENGTH = 255
_ANNEX = "/annex/objects/"
_CHUNK_BYTES = 1 << 20


def sealed_digest(file: BinaryIO, position: int) -> str:
    """Return the SHA-256 of a sealed file, whose stored hash of 64 hexadecimal digits begins at `position`."""
    file.seek(0)
    digest = hashlib.sha256(file.read(position))
    digest.update(BLANK)
    file.seek(position + len(BLANK))
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_there(path: Path) -> bool:
    """Return whether a file or folder exists. A path that is too long, or that contains a zero byte, does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def seen_from_here(path: Path) -> Path:
    """Return a path relative to the working folder if it leads into it, or else absolute."""
    absolute = path.absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


def seal(content: Mapping[str, Any]) -> str:
    """Return a JSON object as a sealed text."""
    text = json.dumps(dict(content))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({**content, SEAL: digest})


def unseal(text: str) -> dict[str, Any]:
    """Check a sealed text and return its content without the hash.

    Raises
    ------
    ValueError
        If the text is not a JSON object, has no hash, or was changed after it was written.
    """
    content = json.loads(text)
    if not isinstance(content, dict) or SEAL not in content:
        raise ValueError("it has no checksum of itself")
    del content[SEAL]
    if seal(content) != text:
        raise ValueError("it is not what was written")
    return content


def open_file(path: Path, max_bytes: int) -> BufferedReader:
    """Open an ordinary file of limited size for reading.

    A pipe, a device, a folder, and a link that leads out of the folder of the file are refused by a `UserError`.
    """
    # `resolve` raises RuntimeError if links form a circle.
    try:
        if not path.resolve().is_relative_to(path.parent.resolve()):
            raise UserError(
                f"{path} is a link to a file outside of its folder; expected the file itself (cp -rL copies a folder "
                "together with the files that its links lead to)."
            )
        descriptor, size = open_descriptor(str(path))
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}).") from None
    if size > max_bytes:
        os.close(descriptor)
        raise UserError(f"{path} has {size:,} bytes; expected at most {max_bytes:,}.")
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read an ordinary file of limited size. Others are refused as by `open_file`."""
    with open_file(path, max_bytes) as file:
        return file.read(max_bytes)


def open_descriptor(path: str, flags: int = 0) -> tuple[int, int]:
    """Open an ordinary file for reading, with additional flags of `os.open`. Return its descriptor and size in bytes.

    A folder, a pipe or a device is an OSError.
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
    """Open a file of a folder whose name is stated in another file, such as a header.

    If there is no file of this name, the only file whose name differs in upper and lower case is opened: copies from
    other file systems change the case.

    A symbolic link is followed only if its target is in the folder, in the annex of the repository that contains the
    folder (git-annex, DataLad), or beside the target of `named_in`, if that file is a link, too.

    Parameters
    ----------
    folder : str
        Ends with a slash, or is empty for the current folder.
    name : str
        Name of the file in `folder`.
    named_in : str
        Name of the file in `folder` that states `name`.

    Returns
    -------
    descriptor, size : int
        The size is in bytes.

    Raises
    ------
    UserError
        If the name leads out of the folder, or the file cannot be opened.
    """
    if name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
        raise UserError(
            f"{named_in}: file {name[:80]!r} lies outside the record's folder; expected the name of a file in it."
        )
    if len(name) > _MAX_NAME_LENGTH:
        raise UserError(
            f"{named_in} names the file {name[:80]!r}…; expected a name of at most {_MAX_NAME_LENGTH} characters."
        )

    # With O_NOFOLLOW, `open` fails with ELOOP for a symbolic link, so that the target is checked before it is opened.
    path = f"{folder}{name}"
    try:
        try:
            return open_descriptor(path, os.O_NOFOLLOW)
        except FileNotFoundError:
            path = f"{folder}{name_in_folder(folder, name)}"
            return open_descriptor(path, os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise UserError(f"{path}: cannot be read ({reason(error)}), though {named_in} names it.") from None
    target = os.path.realpath(path)
    if not _is_allowed_target(target, folder, named_in):
        raise UserError(
            f"{path}: a symbolic link that leads outside the record's folder; expected a file in it, as {named_in} "
            "names it (cp -rL copies a folder together with the files that its links lead to)."
        )
    try:
        return open_descriptor(target, os.O_NOFOLLOW)
    except FileNotFoundError:
        advice = "; 'git annex get' or 'datalad get' fetches it" if _ANNEX in target else ""
        raise UserError(
            f"{path}: cannot be read (a symbolic link to a file that is not here), though {named_in} names it{advice}."
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}), though {named_in} names it.") from None


def name_in_folder(folder: str, name: str) -> str:
    """Return the name of a file as the folder has it, if only upper and lower case differ.

    It is `name` itself if the folder has a file of this name, has none, or has several that differ in case only. The
    folder ends with a slash, or is empty for the current folder.
    """
    if os.path.lexists(f"{folder}{name}"):
        return name
    try:
        names = os.listdir(folder or ".")  # noqa: PTH208
    except OSError:
        return name
    matches = [other for other in names if other.lower() == name.lower()]
    return matches[0] if len(matches) == 1 else name


def _is_allowed_target(target: str, folder: str, named_in: str) -> bool:
    """Decide whether a link in a folder may lead to `target`, an absolute path without links."""
    real_folder = os.path.realpath(folder)
    if Path(target).is_relative_to(real_folder):
        return True

    # The folder can consist of links, for example a selection of the records of a corpus.
    namer = os.path.join(folder, named_in)  # noqa: PTH118
    namer_folder = os.path.dirname(os.path.realpath(namer))  # noqa: PTH120
    if os.path.islink(namer) and os.path.dirname(target) == namer_folder:  # noqa: PTH114, PTH120
        return True

    # The annex of a repository is ROOT/.git/annex/objects, and ROOT/.git/modules/NAME/annex/objects for a part of it.
    root, git, inside = target.partition("/.git/")
    return bool(git) and _ANNEX in f"/{inside}" and Path(real_folder).is_relative_to(root)


def read_bytes(descriptor: int, size: int, offset: int = 0) -> bytes:
    """Read `size` bytes from `offset` on. At the end of the file, fewer bytes are returned."""
    data = os.pread(descriptor, size, offset)
    if len(data) == size:
        return data

    # One call of `pread` reads at most 2 GiB. An empty part means the end of the file.
    parts = [data]
    remaining = size - len(data)
    while data and remaining:
        offset += len(data)
        data = os.pread(descriptor, remaining, offset)
        parts.append(data)
        remaining -= len(data)
    return b"".join(parts)


def check_ordinary(folder: Path, inside: Iterable[str] = ()) -> None:
    """Refuse a folder with anything except ordinary files and folders. Those `inside` are checked at any depth.

    A write to a link could change a file outside of the folder. A read from a pipe could wait forever. This package
    writes neither.
    """
    paths = list(folder.glob("*"))
    for name in inside:
        paths.extend((folder / name).rglob("*"))
    for path in paths:
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(
                f"{folder}: {path.relative_to(folder)} is a link or no ordinary file; expected the files that "
                "einthoven has written there."
            )


def reason(error: Exception) -> str:
    """Return the message of an exception on one line, without the name of the file."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return " ".join(text.split())
