"""Read the signals of a MATLAB ``.mat`` file, versions 4 to 7. Everything else in the file is ignored.

The signals are the matrix ``val`` (PhysioNet), or the field ``data`` of the structure ``ECG`` (CPSC 2018).

`scipy.io.loadmat` allocates as much memory as a file states: a compressed megabyte can become a gigabyte or more. This
reader limits the size, because users of the web page can upload any file. The tests compare it with scipy's reader.

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

from einthoven.data.formats.atm_info import INFO_SUFFIX, read_info
from einthoven.data.formats.channels import quote
from einthoven.data.formats.file_signals import MOST_BYTES, FileSignals, Metadata, read_ordinary_file
from einthoven.data.formats.metadata import add_metadata
from einthoven.errors import UserError
from einthoven.files import reason

NAME = "val"
"""Name of the matrix in the files of the PhysioNet Challenges and of PhysioNet's tools."""

STRUCTURE = "ECG"
FIELD = "data"
"""Name of the structure and of its matrix in the files of CPSC 2018."""

MOST_MATRICES = 1000
"""Largest number of matrices of a file that are looked at."""

# Bytes to decompress for the name of a matrix. A name has at most 63 characters.
_NAME_BYTES = 1024

# NumPy has at most this many dimensions, too.
_MOST_DIMENSIONS = 64

# NumPy type codes by the numbers that the format uses.
_LEVEL_4_TYPES = ("f8", "f4", "i4", "i2", "u2", "u1")
_LEVEL_5_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}

# Types of elements.
_MATRIX = 14
_COMPRESSED = 15

# Classes of structures and of numeric matrices, and flags of a matrix.
_STRUCT = 2
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX = 0x0800
_LOGICAL = 0x0200

Matrix = tuple[str, Callable[[], NDArray[Any]]]
"""Name of a matrix, and a function that reads its values."""


def read_mat(path: str | Path, caller: Metadata) -> FileSignals:
    """Read the signals, (leads, T) or (T, leads), of a file without a header, as `read_npy` reads an array.

    An ``.info`` of PhysioBank ATM beside the file states sampling frequency, gains, units and leads.

    Raises
    ------
    UserError
        As `read_npy`; also if the file is damaged, is too large after decompression, or has no such signals, or if the
        ``.info`` does not fit them.
    """
    source = Path(path).name
    values = _find_matrix(read_ordinary_file(path), source)
    info_file = Path(path).with_suffix(INFO_SUFFIX)
    if not info_file.is_file():
        return add_metadata(path, values, Metadata(), caller)
    info = read_info(info_file)
    return add_metadata(path, info.amplitudes(values, source), info.metadata, caller, info.units)


def _find_matrix(data: bytes, source: str) -> NDArray[Any]:
    other_names = []
    read_structure: Callable[[], NDArray[Any]] | None = None
    try:
        for name, read_values in islice(_matrices(memoryview(data), source), MOST_MATRICES):
            if name == NAME:
                return read_values()
            if name == STRUCTURE:
                read_structure = read_values
            other_names.append(name)
        if read_structure is not None:
            return read_structure()
    except (struct.error, zlib.error, ValueError) as error:
        raise UserError(
            f"{source}: not a readable MATLAB file ({reason(error)}); expected a .mat with a matrix {NAME}."
        ) from None
    content = quote(" ".join(other_names)) if other_names else "nothing"
    raise UserError(
        f"{source}: {content} found; expected a matrix named {NAME}, or a structure {STRUCTURE} with a matrix {FIELD}."
    )


def _matrices(data: memoryview, source: str) -> Iterator[Matrix]:
    """Iterate over the matrices of a file."""
    # Level 5 starts with four bytes of text. Level 4 starts with a small integer, so that at least one byte is zero.
    return _level_4_matrices(data, source) if 0 in data[:4] else _level_5_matrices(data, source)


def _level_4_matrices(data: memoryview, source: str) -> Iterator[Matrix]:
    # The first number is below 5000 if it is read with the right byte order.
    byte_order = "<" if struct.unpack_from("<I", data)[0] < 5000 else ">"
    position = 0
    while position < len(data):
        # The decimal digits of the kind are: byte order, 0, type of the stored numbers, class of the matrix.
        kind, rows, columns, is_complex, name_length = struct.unpack_from(f"{byte_order}5I", data, position)
        stored_type = kind // 10 % 10
        matrix_class = kind % 10
        has_valid_kind = kind < 2000 and kind // 100 % 10 == 0 and stored_type < len(_LEVEL_4_TYPES)
        if not has_valid_kind or matrix_class > 2 or not 1 <= name_length <= 64:
            raise ValueError(f"a matrix of kind {kind} and a name of {name_length} bytes")

        # The header has 20 bytes. The name and the values follow.
        start = position + 20 + name_length
        dtype = np.dtype(byte_order + _LEVEL_4_TYPES[stored_type])
        size = rows * columns * dtype.itemsize
        name = bytes(data[position + 20 : start]).rstrip(b"\0").decode("latin-1")
        is_real = not is_complex and matrix_class == 0
        values = data[start : start + size]
        yield name, partial(_to_array, values, dtype, (rows, columns), source, is_real=is_real)

        # The imaginary part follows the real part.
        position = start + size * (2 if is_complex else 1)


def _level_5_matrices(data: memoryview, source: str) -> Iterator[Matrix]:
    byte_order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if byte_order is None:
        raise ValueError(f"{bytes(data[126:128])!r} in the place of the byte order")
    for kind, content in _elements(data[128:], byte_order):
        if kind not in (_MATRIX, _COMPRESSED):
            raise ValueError(f"an element of type {kind}")
        is_compressed = kind == _COMPRESSED

        # The name is in the first bytes. In a compressed element, the tag of the matrix (8 bytes) comes before it.
        start = content[:_NAME_BYTES]
        if is_compressed:
            start = memoryview(zlib.decompressobj().decompress(content, _NAME_BYTES))[8:]
        name = bytes(_description(start, byte_order)[2]).decode("latin-1")
        yield name, partial(_read_level_5_values, content, is_compressed, byte_order, source)


def _elements(data: memoryview, byte_order: str) -> Iterator[tuple[int, memoryview]]:
    """Iterate over type and content of the elements. The last one may be cut off."""
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from(f"{byte_order}2I", data, position)
        start = position + 8
        end = start + size
        # A small element has type and size in the first four bytes, and up to four bytes of content in the others.
        if kind >> 16:
            size = kind >> 16
            kind = kind & 0xFFFF
            start = position + 4
            end = start + min(size, 4)
        yield kind, data[start:end]

        # An element starts at a multiple of eight bytes, except after a compressed one.
        position = end if kind == _COMPRESSED else end + (position - end) % 8


def _description(matrix: memoryview, byte_order: str) -> list[memoryview]:
    """Return flags, shape and name of a matrix."""
    parts = [content for _, content in islice(_elements(matrix, byte_order), 3)]
    if len(parts) < 3:
        raise ValueError("a matrix without a name")
    return parts


def _decompress(content: memoryview, byte_order: str, source: str) -> memoryview:
    """Decompress a matrix. The size that it states is checked before memory is allocated."""
    tag = zlib.decompressobj().decompress(content, 8)
    size = struct.unpack_from(f"{byte_order}2I", tag)[1]
    if size > MOST_BYTES:
        raise UserError(f"{source}: {size:,} bytes unpacked; expected an ECG of at most {MOST_BYTES:,} bytes.")

    # zlib compares its checksum only if there is room for one more byte than the content has.
    decompressor = zlib.decompressobj()
    data = decompressor.decompress(content, size + 9)
    if not decompressor.eof or len(data) != size + 8:
        raise ValueError("a compressed matrix that is cut off, or longer than it says")
    return memoryview(data)[8:]


def _read_level_5_values(content: memoryview, is_compressed: bool, byte_order: str, source: str) -> NDArray[Any]:
    matrix = _decompress(content, byte_order, source) if is_compressed else content
    flags, shape, name = _description(matrix, byte_order)
    (flag,) = struct.unpack_from(f"{byte_order}I", flags)
    dimensions = _dimensions(shape, byte_order)

    # Only the structure can be one. Its field is read as a matrix of its own.
    is_structure = bytes(name).decode("latin-1") == STRUCTURE
    if is_structure != (flag & 0xFF == _STRUCT):
        raise UserError(
            f"{source}: {NAME} or {STRUCTURE} is another kind of array; expected a matrix of real numbers {NAME}, or a "
            f"structure {STRUCTURE}."
        )
    if is_structure:
        field = _find_field(matrix, dimensions, byte_order, source)
        flags, shape, _ = _description(field, byte_order)
        (flag,) = struct.unpack_from(f"{byte_order}I", flags)
        dimensions = _dimensions(shape, byte_order)
        matrix = field

    # The values are the fourth element. A missing one counts as empty.
    kind, values = next(islice(_elements(matrix, byte_order), 3, None), (0, memoryview(b"")))
    is_numeric = flag & 0xFF in _NUMERIC_CLASSES and kind in _LEVEL_5_TYPES
    is_real = is_numeric and not flag & (_COMPLEX | _LOGICAL)
    dtype = np.dtype(byte_order + _LEVEL_5_TYPES.get(kind, "u1"))
    return _to_array(values, dtype, dimensions, source, is_real=is_real)


def _dimensions(shape: memoryview, byte_order: str) -> tuple[int, ...]:
    """Return the shape of a matrix. A file can state any number of dimensions."""
    if len(shape) > 4 * _MOST_DIMENSIONS:
        raise ValueError(f"a matrix of {len(shape) // 4:,} dimensions")
    return struct.unpack(f"{byte_order}{len(shape) // 4}I", shape)


def _find_field(matrix: memoryview, dimensions: tuple[int, ...], byte_order: str, source: str) -> memoryview:
    """Return the field `FIELD` of a structure. Length and names of the fields follow its description."""
    elements = list(islice(_elements(matrix, byte_order), 3, 5 + MOST_MATRICES))
    if dimensions != (1, 1) or len(elements) < 2:
        raise UserError(f"{source}: {STRUCTURE} of {dimensions} found; expected one structure with a matrix {FIELD}.")
    (length,) = struct.unpack_from(f"{byte_order}I", elements[0][1])
    text = bytes(elements[1][1])
    # The names have one length. A short one would make a list of as many names as the text has bytes.
    if length < 1 or len(text) > length * MOST_MATRICES:
        raise ValueError(f"names of fields with {length} bytes each in {len(text):,} bytes")
    names = [text[start : start + length].rstrip(b"\0").decode("latin-1") for start in range(0, len(text), length)]
    fields = dict(zip(names, elements[2:], strict=False))
    kind, content = fields.get(FIELD, (0, memoryview(b"")))
    if kind != _MATRIX:
        raise UserError(f"{source}: {quote(' '.join(names))} found in {STRUCTURE}; expected a matrix named {FIELD}.")
    return content


def _to_array(
    values: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], source: str, *, is_real: bool
) -> NDArray[Any]:
    if not is_real or len(shape) != 2:
        raise UserError(f"{source}: the signals are another kind of array; expected a matrix of real numbers.")
    stated_size = dtype.itemsize * shape[0] * shape[1]
    if len(values) != stated_size:
        raise UserError(
            f"{source}: truncated or damaged: {len(values)} bytes of {stated_size} found for a matrix of {shape}."
        )
    return np.frombuffer(values, dtype).reshape(shape, order="F")
