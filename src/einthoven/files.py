"""Reading files that can be damaged, or come from a stranger: ordinary files alone, bounded sizes, and hashes.

A sealed file contains the SHA-256 of its own content. The hash is computed with `BLANK` in its place, so that it covers
every byte of the file: names, sizes and numbers alike. A sealed text (`seal`) is a JSON object whose last entry is
the SHA-256 of what stands before it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import stat
import tokenize
from collections.abc import Iterable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from einthoven.errors import UserError

BLANK = b"0" * 64
"""What stands in the place of the hash while the hash is computed."""

DEEPEST = 64
"""Most lists and objects inside one another in a JSON file."""

SEAL = "sha256"
"""Last entry of a sealed text."""

BAD_ARRAY_HEADER = (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)
"""What NumPy raises for the damaged header of an array: it parses the header as a Python expression."""

# A pipe in place of a file does not keep the reader waiting, and a symbolic link is seen before it is followed.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST_NAME = 255
_AT_ONCE = 1 << 20  # bytes in memory while a file is hashed
_MOST_HEADER = 1 << 26  # bytes
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def sealed_digest(file: BinaryIO, position: int) -> str:
    """SHA-256 of a file whose own hash, 64 hexadecimal digits, stands at a position."""
    file.seek(0)
    digest = hashlib.sha256(file.read(position))
    digest.update(BLANK)
    file.seek(position + len(BLANK))
    while chunk := file.read(_AT_ONCE):
        digest.update(chunk)
    return digest.hexdigest()


def file_digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(content: Mapping[str, Any]) -> str:
    """The sealed text of a JSON object."""
    text = json.dumps(dict(content))
    return json.dumps({**content, SEAL: hashlib.sha256(text.encode()).hexdigest()})


def unseal(text: str) -> dict[str, Any]:
    """What a sealed text holds.

    Raises
    ------
    ValueError
        If it is no JSON object, has no seal, or is not what was written.
    """
    content = json.loads(text)
    if not isinstance(content, dict) or SEAL not in content:
        raise ValueError("it has no checksum of itself")
    del content[SEAL]
    if seal(content) != text:
        raise ValueError("it is not what was written")
    return content


def open_file(path: Path, most: int) -> BufferedReader:
    """Open a file for reading; a pipe, a device, a folder and a file that is too large are refused.

    So is a link that leads out of the folder of the file: what it leads to is no part of that folder.

    Parameters
    ----------
    path : Path
    most : int
        Bytes that the file may have.

    Raises
    ------
    UserError
        If it is not such a file, or cannot be read.
    """
    try:
        if not path.resolve().is_relative_to(path.parent.resolve()):
            raise UserError(
                f"{path}: a link to a file outside of its folder; expected the file itself (cp -rL copies a folder "
                "with what its links lead to)."
            )
        descriptor, size = open_descriptor(str(path))
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links
        raise UserError(f"{path}: cannot be read ({reason(error)}).") from None
    if size > most:
        os.close(descriptor)
        raise UserError(f"{path}: {size:,} bytes; expected {most:,} at most.")
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, most: int) -> bytes:
    """The content of a file that `open_file` takes.

    Raises
    ------
    UserError
        As `open_file`.
    """
    with open_file(path, most) as file:
        return file.read(most)


def open_descriptor(path: str, flags: int = 0) -> tuple[int, int]:
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
            f"{named_in}: file {name[:80]!r} lies outside the record's folder; expected the name of a file in it."
        )
    if len(name) > _LONGEST_NAME:
        raise UserError(
            f"{named_in}: file {name[:80]!r}… named; expected a name of at most {_LONGEST_NAME} characters."
        )
    path = f"{folder}{name}"
    try:
        return open_descriptor(path, os.O_NOFOLLOW)
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
        return open_descriptor(real, os.O_NOFOLLOW)
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


def check_ordinary(folder: Path, inside: Iterable[str] = ()) -> None:
    """Refuse a folder in which something is no ordinary file and no folder.

    A link could lead out of the folder, and what is written to it would be written there; a pipe would keep the reader
    waiting. What this package writes contains neither.

    Parameters
    ----------
    folder : Path
    inside : iterable of str
        Folders in it of which everything is looked at, at any depth.

    Raises
    ------
    UserError
        Names the first such path.
    """
    deeper = [path for name in inside for path in (folder / name).rglob("*")]
    for path in (*folder.glob("*"), *deeper):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise UserError(
                f"{folder}: {path.relative_to(folder)} is a link or no ordinary file; expected the files that "
                "einthoven has written there."
            )


def reason(error: Exception) -> str:
    """What went wrong, on one line, without the file's name."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def safetensors_header(file: BinaryIO, source: str) -> bytes:
    """The first bytes of a safetensors file: the length of its header, in eight bytes, and the header, which is JSON.

    Raises
    ------
    UserError
        If the header does not fit into the file.
    """
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 0 < length <= min(_MOST_HEADER, size - 8):
        raise UserError(f"{source} is damaged: the header of this safetensors file does not fit into it")
    return start + file.read(length)


def parse_json(text: bytes | str, source: str, *, finite: bool = True) -> Any:
    """Parse JSON strictly.

    Parameters
    ----------
    text : bytes or str
    source : str
        Where it comes from, for the sentence.
    finite : bool
        Refuse NaN and infinity, also as numbers that are too large, such as 1e999.

    Raises
    ------
    UserError
        If it is no JSON, an object has the same key twice, or it is nested deeper than `DEEPEST`.
    """
    data = text.encode() if isinstance(text, str) else text
    _check_depth(data, source)
    options: dict[str, Any] = {"parse_constant": _refuse_constant, "parse_float": _finite_number} if finite else {}
    try:
        return json.loads(data, object_pairs_hook=_object, **options)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not the JSON that is expected ({' '.join(str(error).split())[:200]}).") from None


def _check_depth(data: bytes, source: str) -> None:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(data):
        if token[0] in (b"[", b"{"):
            depth += 1
        elif token[0] in (b"]", b"}"):
            depth -= 1
        if depth > DEEPEST:
            raise UserError(f"{source}: JSON that is nested more than {DEEPEST} deep.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"the key {name[:80]!r} twice in one object")
        content[name] = value
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} instead of a number")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]}, which is too large for a number")
    return number
