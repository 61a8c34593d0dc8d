"""MATLAB's ``.mat``, versions 4 to 7: the matrix ``val`` of real numbers, and nothing else of the file.

`scipy.io.loadmat` makes room for what a file says that it holds: of a compressed megabyte, a gigabyte and more. Files
that strangers hand to the page are read by this instead; scipy's reader is what the tests compare it with.

References
----------
MathWorks, "MAT-File Format", levels 4 and 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import shown
from einthoven.data.formats.file_signals import MOST_BYTES, FileSignals, Told, load
from einthoven.data.formats.tabular import told_signals
from einthoven.errors import UserError
from einthoven.files import reason

NAME = "val"  # what the Challenges and PhysioNet's tools call it
MOST_MATRICES = 1000
_START = 1024  # bytes unpacked to see what a matrix is called; names have 63 at most
_LEVEL_4 = ("f8", "f4", "i4", "i2", "u2", "u1")
_LEVEL_5 = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_NUMBERS, _COMPLEX, _LOGICAL = range(6, 16), 0x0800, 0x0200  # classes of a matrix, and its flags
Matrix = tuple[str, Callable[[], NDArray[Any]]]


def read_mat(path: str | Path, told: Told) -> FileSignals:
    """Read the matrix `val` (leads, T) or (T, leads) of a file without a header, as `read_npy` reads an array.

    Raises
    ------
    UserError
        As `read_npy`; if the file is damaged, of version 7.3, larger unpacked than a file may be, or has no `val`.
    """
    source = Path(path).name
    return told_signals(path, _matrix(load(path), source), Told(), told)


def _matrix(data: bytes, source: str) -> NDArray[Any]:
    found = []
    try:
        for name, read in islice(_matrices(memoryview(data), source), MOST_MATRICES):
            if name == NAME:
                return read()
            found.append(name)
    except (struct.error, zlib.error, ValueError) as error:
        raise UserError(
            f"{source}: not a readable MATLAB file ({reason(error)}); expected a .mat with a matrix {NAME}."
        ) from None
    names = shown(" ".join(found)) if found else "nothing"
    raise UserError(f"{source}: {names} found; expected a matrix named {NAME}.")


def _matrices(data: memoryview, source: str) -> Iterator[Matrix]:
    """Name of each matrix of a file, and how to read it."""
    if bytes(data[:4]) == b"\x89HDF" or bytes(data[:10]) == b"MATLAB 7.3":
        raise UserError(f"{source}: a file of MATLAB 7.3 (HDF5) found; expected one saved with '-v7' or before.")
    return _level_4(data, source) if 0 in data[:4] else _level_5(data, source)


def _level_4(data: memoryview, source: str) -> Iterator[Matrix]:
    order, at = "<" if struct.unpack_from("<I", data)[0] < 5000 else ">", 0
    while at < len(data):
        kind, rows, columns, imaginary, named = struct.unpack_from(f"{order}5I", data, at)
        stored, content = kind // 10 % 10, kind % 10
        if kind >= 2000 or kind // 100 % 10 or stored >= len(_LEVEL_4) or content > 2 or not 1 <= named <= 64:
            raise ValueError(f"a matrix of kind {kind} and a name of {named} bytes")
        start, dtype = at + 20 + named, np.dtype(order + _LEVEL_4[stored])
        size = rows * columns * dtype.itemsize
        name = bytes(data[at + 20 : start]).rstrip(b"\0").decode("latin-1")
        real = not imaginary and content == 0
        yield name, partial(_array, data[start : start + size], dtype, (rows, columns), source, real=real)
        at = start + size * (2 if imaginary else 1)


def _level_5(data: memoryview, source: str) -> Iterator[Matrix]:
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if order is None:
        raise ValueError(f"{bytes(data[126:128])!r} where the order of bytes is said")
    for kind, part in _elements(data[128:], order):
        if kind not in (_MATRIX, _COMPRESSED):
            raise ValueError(f"an element of type {kind}")
        packed, start = kind == _COMPRESSED, part[:_START]
        if packed:
            start = memoryview(zlib.decompressobj().decompress(part, _START))[8:]
        yield bytes(_description(start, order)[2]).decode("latin-1"), partial(_values, part, packed, order, source)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element; the last may be cut off."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}2I", data, at)
        start, end = at + 8, at + 8 + size
        if kind >> 16:  # up to four bytes stand in the tag itself
            kind, size = kind & 0xFFFF, kind >> 16
            start, end = at + 4, at + 4 + min(size, 4)
        yield kind, data[start:end]
        at = end if kind == _COMPRESSED else end + (at - end) % 8


def _description(matrix: memoryview, order: str) -> list[memoryview]:
    """Flags, shape and name of a matrix."""
    parts = [part for _, part in islice(_elements(matrix, order), 3)]
    if len(parts) < 3:
        raise ValueError("a matrix without a name")
    return parts


def _unpacked(part: memoryview, order: str, source: str) -> memoryview:
    """The matrix in a compressed element, of a size that is bounded before room is made for it."""
    size = struct.unpack_from(f"{order}2I", zlib.decompressobj().decompress(part, 8))[1]
    if size > MOST_BYTES:
        raise UserError(f"{source}: {size:,} bytes unpacked; expected an ECG of at most {MOST_BYTES:,} bytes.")
    stream = zlib.decompressobj()
    data = stream.decompress(part, size + 9)  # the checksum is looked at where one byte more could have come
    if not stream.eof or len(data) != size + 8:
        raise ValueError("a compressed matrix that is cut off, or longer than it says")
    return memoryview(data)[8:]


def _values(part: memoryview, packed: bool, order: str, source: str) -> NDArray[Any]:
    matrix = _unpacked(part, order, source) if packed else part
    flags, shape, _ = _description(matrix, order)
    (flag,) = struct.unpack_from(f"{order}I", flags)
    kind, content = next(islice(_elements(matrix, order), 3, None), (0, memoryview(b"")))
    sizes = struct.unpack(f"{order}{len(shape) // 4}I", shape)
    real = flag & 0xFF in _NUMBERS and not flag & (_COMPLEX | _LOGICAL) and kind in _LEVEL_5
    return _array(content, np.dtype(order + _LEVEL_5.get(kind, "u1")), sizes, source, real=real)


def _array(part: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], source: str, *, real: bool) -> NDArray[Any]:
    if not real or len(shape) != 2:
        raise UserError(f"{source}: {NAME} is another kind of array; expected a matrix of real numbers.")
    claimed = dtype.itemsize * shape[0] * shape[1]
    if len(part) != claimed:
        raise UserError(f"{source}: truncated or damaged: {len(part)} bytes of {claimed} found for {NAME} of {shape}.")
    return np.frombuffer(part, dtype).reshape(shape, order="F")
