"""Reading files that can be damaged, or come from a stranger: one hash, bounded sizes, and one sentence for a bad file.

A sealed file contains the SHA-256 of its own content. The hash is computed with `BLANK` in its place, so that it covers
every byte of the file: names, sizes and numbers alike.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from einthoven.errors import UserError

BLANK = b"0" * 64
"""What stands in the place of the hash while the hash is computed."""

DEEPEST = 64
"""Most lists and objects inside one another in a JSON file."""

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
        # Opening a pipe would wait for its other end, and opening a device can have an effect.
        _check_regular(path, path.stat(), most)
        file = path.open("rb")
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    try:
        _check_regular(path, os.fstat(file.fileno()), most)
    except UserError:
        file.close()
        raise
    return file


def read_file(path: Path, most: int) -> bytes:
    """The content of a file that `open_file` takes.

    Raises
    ------
    UserError
        As `open_file`.
    """
    with open_file(path, most) as file:
        return file.read(most)


def _check_regular(path: Path, status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: a folder, a pipe or a device; expected a file.")
    if status.st_size > most:
        raise UserError(f"{path}: {status.st_size:,} bytes; expected {most:,} at most.")


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
