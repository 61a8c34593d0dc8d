"""Decode the Huffman codes of SCP-ECG.

References
----------
EN 1064, section 2 and annex C: a code consists of a prefix and, in some classes, of bits that are a signed number.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEFAULT_TABLE = 19_999
"""The number of tables that means the default table of the standard."""

_MOST_TABLES = 64
_MOST_PREFIX_BITS = 16
_STRUCTURE = struct.Struct("<BBBhI")


@dataclass(frozen=True)
class Code:
    """One class of codes.

    Attributes
    ----------
    prefix : str
        The bits of the prefix, in the order of the stream.
    number_bits : int
        Bits behind the prefix that are a signed number; 0 if the prefix stands for `value`.
    value : int
        The value of the code, or the number of the table for the next codes, from 1, if `switches`.
    switches : bool
    """

    prefix: str
    number_bits: int
    value: int
    switches: bool = False


Lookup = list[tuple[int, Code] | None]
"""For the next bits of the stream, as a number: length of the prefix and code, or None if no code starts so."""


def default_codes() -> list[Code]:
    """Return the default table: short codes for -8 to 8, then a number of 8 or of 16 bits."""
    codes = [Code("0", 0, 0)]
    for value in range(1, 9):
        start = "1" * (value + 1) + "0"
        codes.append(Code(f"{start[1:]}0", 0, value))
        codes.append(Code(f"{start[1:]}1", 0, -value))
    codes.append(Code("1111111110", 8, 0))
    codes.append(Code("1111111111", 16, 0))
    return codes


def parse_tables(section: memoryview) -> list[Lookup]:
    """Parse the content of section 2.

    Raises
    ------
    ValueError, struct.error
        If a table is cut off, or its codes are ambiguous.
    """
    (count,) = struct.unpack_from("<H", section)
    if count == DEFAULT_TABLE:
        return [_build_lookup(default_codes())]
    if not 1 <= count <= _MOST_TABLES:
        raise ValueError(f"{count} Huffman tables")
    tables = []
    position = 2
    for _ in range(count):
        (structures,) = struct.unpack_from("<H", section, position)
        position += 2
        codes = []
        for _ in range(structures):
            prefix_bits, all_bits, mode, value, base_code = _STRUCTURE.unpack_from(section, position)
            position += _STRUCTURE.size
            if not 1 <= prefix_bits <= _MOST_PREFIX_BITS or not prefix_bits <= all_bits <= prefix_bits + 16:
                raise ValueError(f"a code of {prefix_bits} and {all_bits} bits")
            # The lowest bit of the base code is the first bit of the stream.
            prefix = f"{base_code & ((1 << prefix_bits) - 1):0{prefix_bits}b}"[::-1]
            codes.append(Code(prefix, all_bits - prefix_bits, value, switches=mode == 0))
        tables.append(_build_lookup(codes))
    return tables


def _build_lookup(codes: Sequence[Code]) -> Lookup:
    width = max((len(code.prefix) for code in codes), default=1)
    lookup: Lookup = [None] * (1 << width)
    for code in codes:
        free_bits = width - len(code.prefix)
        first = int(code.prefix, 2) << free_bits
        entries = range(first, first + (1 << free_bits))
        if any(lookup[entry] is not None for entry in entries):
            raise ValueError("Huffman codes of which one begins like another")
        for entry in entries:
            lookup[entry] = (len(code.prefix), code)
    return lookup


def decode(data: bytes, tables: Sequence[Lookup], most_values: int) -> NDArray[np.int64]:
    """Decode values until the data end, or `most_values` are decoded.

    Parameters
    ----------
    data : bytes
    tables : sequence of Lookup
    most_values : int

    Returns
    -------
    ndarray of int64, shape (values,)

    Raises
    ------
    ValueError
        If the data contain a code that is in no table, or switch to a table that does not exist.
    """
    lookup = tables[0]
    width = len(lookup).bit_length() - 1
    values: list[int] = []
    buffer = 0
    buffered_bits = 0
    position = 0
    while len(values) < most_values:
        # A code has at most 32 bits. Zero bits follow the end of the data.
        while buffered_bits < 32 and position < len(data):
            buffer = (buffer << 8) | data[position]
            buffered_bits += 8
            position += 1
        if buffered_bits >= width:
            entry = lookup[buffer >> (buffered_bits - width)]
        else:
            entry = lookup[buffer << (width - buffered_bits)]
        if entry is None:
            if buffered_bits < width:
                break
            raise ValueError("a Huffman code that is in no table")
        prefix_bits, code = entry
        used_bits = prefix_bits + code.number_bits
        if used_bits > buffered_bits:
            break
        buffered_bits -= used_bits
        if code.switches:
            if not 1 <= code.value <= len(tables):
                raise ValueError(f"a switch to Huffman table {code.value} of {len(tables)}")
            lookup = tables[code.value - 1]
            width = len(lookup).bit_length() - 1
        elif code.number_bits:
            number = (buffer >> buffered_bits) & ((1 << code.number_bits) - 1)
            sign = 1 << (code.number_bits - 1)
            values.append((number ^ sign) - sign)
        else:
            values.append(code.value)
        buffer &= (1 << buffered_bits) - 1
    return np.array(values, dtype=np.int64)
