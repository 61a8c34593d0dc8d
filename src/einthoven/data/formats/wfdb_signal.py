"""WFDB signal files -> counts: the plain formats decoded here in whole arrays, the others by the wfdb package.

Counts stand as they do in the file: skew is not yet undone, invalid samples are not yet marked.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import shown
from einthoven.data.formats.wfdb_header import Header
from einthoven.errors import UserError
from einthoven.files import open_inside, read_bytes, reason

Counts = NDArray[np.signedinteger]
Checksum = Literal["verify", "warn"]

_PLAIN = {"16": 48, "61": 48, "160": 48, "212": 36, "24": 72, "32": 96, "80": 24}  # decoded here
_WHOLE = {"8": 24, "310": 32, "311": 32}  # by the wfdb package
_STORED = _PLAIN | _WHOLE  # format -> bits that three samples take
_COMPRESSED = ("508", "516", "524")  # FLAC, by the wfdb package
_MOST_PER_BYTE = 2**16  # samples: no block of a FLAC file holds more, and none is as small as a byte

_BITS = {8: "80 508", 10: "310 311", 12: "212", 16: "16 61 160 516", 24: "24 524", 32: "32"}
INVALID = {name: -(2 ** (bits - 1)) for bits, names in _BITS.items() for name in names.split()}
"""Signal format -> the count that means "no valid sample here": the lowest of its bits. Format 8 has none."""


def read_counts(
    header: Header, wanted: Collection[int], *, checksum: Checksum = "verify"
) -> tuple[Counts | Sequence[Counts | None], tuple[str, ...]]:
    """Read the signal files that hold the wanted signals.

    Parameters
    ----------
    header : Header
        Of a record of one segment.
    wanted : collection of int
        Indices of signals. All signals of a file that is read are verified.
    checksum : "verify" or "warn"
        What to do where a checksum or a first sample is not that of the header: refuse, or say so in the notes.

    Returns
    -------
    counts : ndarray of int, shape (signals, T), or sequence of ndarray
        An array where all signals stand in one file in the same way; otherwise one array for each signal, None for
        those of files that are not read. T is frames times samples per frame.
    notes : tuple of str
        What differs from the header, where that is not refused.

    Raises
    ------
    UserError
        If a file is missing, truncated, damaged, or in no format that is known.

    References
    ----------
    WFDB signal formats, https://wfdb.io/spec/signal-files.html
    """
    files = header.files
    if header.layout.plain and files.count(files[0]) == len(files):
        counts = _read_file(header, range(len(files)))
        return counts, _verify(header, range(len(files)), counts, checksum)
    rows: list[Counts | None] = [None] * len(files)
    notes: tuple[str, ...] = ()
    for columns in _groups(header, wanted):
        counts = _read_file(header, columns)
        notes += _verify(header, columns, counts, checksum)
        for column, row in zip(columns, counts, strict=True):
            rows[column] = row
    return rows, notes


def frame_count(header: Header, wanted: Collection[int]) -> int:
    """Number of frames of the files of the wanted signals, as the header has it or, without it, by their sizes.

    Raises
    ------
    UserError
        If a file is missing, truncated, of another length than the others, or in no format that is known.
    """
    found = []
    for columns in _groups(header, wanted):
        descriptor, size = _open(header, columns)
        try:
            found.append(_frames(header, columns, descriptor, size))
        finally:
            os.close(descriptor)
    if len(set(found)) > 1:
        raise UserError(
            f"{header.name}: signal files of {min(found)} to {max(found)} samples found; expected one length, or that "
            "of the header."
        )
    return found[0]


def _groups(header: Header, wanted: Collection[int]) -> list[list[int]]:
    """Indices of the signals of each file that holds a wanted one."""
    groups: dict[str, list[int]] = {}
    for column, file in enumerate(header.files):
        groups.setdefault(file, []).append(column)
    return [columns for columns in groups.values() if not set(columns).isdisjoint(wanted)]


def _open(header: Header, columns: Sequence[int]) -> tuple[int, int]:
    """Open the file of some signals: descriptor and size."""
    layout, first = header.layout, columns[0]
    file, fmt = header.files[first], layout.formats[first]
    if not layout.plain and len({(layout.formats[c], layout.offsets[c]) for c in columns}) > 1:
        raise UserError(
            f"{header.name}: file {shown(file)} in several formats or offsets; expected one for all its signals."
        )
    if fmt not in _STORED and fmt not in _COMPRESSED:
        known = " ".join([*_STORED, *_COMPRESSED])
        raise UserError(f"{header.name}: signal format {fmt} found for {shown(file)}, expected one of {known}.")
    return open_inside(header.folder, file, header.name)


def _frames(header: Header, columns: Sequence[int], descriptor: int, size: int) -> int:
    """Number of frames to read from a file of `size` bytes."""
    layout, first = header.layout, columns[0]
    fmt, file, offset = layout.formats[first], header.files[first], layout.offsets[first]
    if fmt in _COMPRESSED:
        if header.samples is None:
            raise UserError(f"{header.name}: no number of samples found; expected one, as {file} is compressed.")
        available = _flac_samples(descriptor, size, file) // layout.per_frame[first] - offset
    else:
        available = (size - offset) * 24 // (_STORED[fmt] * _width(header, columns))
    frames = available if header.samples is None else header.samples
    if not 0 < frames <= available:
        raise UserError(
            f"{file}: truncated: {max(available, 0)} of {frames} samples per lead found ({size} bytes, read from "
            f"{offset} on), as {header.name} has them."
        )
    return frames


def _flac_samples(descriptor: int, size: int, file: str) -> int:
    """Samples of each channel, as the first block of a FLAC file has them, or as many as its size can hold.

    References
    ----------
    RFC 9639, section 8.2: the last 36 bits of the first 18 bytes after the marker and the header of that block.
    """
    start = read_bytes(descriptor, 26)
    if len(start) < 26 or start[:4] != b"fLaC":
        raise UserError(f"{file}: {shown(start[:4].decode('latin-1'))} found at its start, expected a FLAC file.")
    most = size * _MOST_PER_BYTE
    return min(int.from_bytes(start[18:26]) & (2**36 - 1) or most, most)  # 0: unknown


def _width(header: Header, columns: Sequence[int]) -> int:
    """Samples in a frame of a file."""
    return len(columns) if header.layout.plain else sum(header.layout.per_frame[c] for c in columns)


def _read_file(header: Header, columns: Sequence[int]) -> Counts | list[Counts]:
    """Counts of all signals of one file."""
    layout, first = header.layout, columns[0]
    fmt, file = layout.formats[first], header.files[first]
    descriptor, size = _open(header, columns)
    try:
        frames, width = _frames(header, columns, descriptor, size), _width(header, columns)
        if fmt not in _PLAIN:
            return _read_with_wfdb(header, columns, frames)
        needed = -(-frames * width * _PLAIN[fmt] // 24)
        data = read_bytes(descriptor, needed, layout.offsets[first])
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({reason(error)}), though {header.name} names it.") from None
    finally:
        os.close(descriptor)
    if len(data) < needed:
        raise UserError(f"{file}: truncated while it was read: {len(data)} of {needed} bytes found.")
    block = decode(data, fmt, frames * width).reshape(frames, width)
    if layout.plain:
        return np.array(block.T, order="C")
    ends = np.cumsum([layout.per_frame[c] for c in columns])
    return [np.array(part, order="C").reshape(-1) for part in np.split(block, ends[:-1], axis=1)]


def decode(data: bytes, fmt: str, count: int) -> Counts:
    """Counts of a plain signal format.

    Parameters
    ----------
    data : bytes
        As many as `count` samples take, the last one rounded up.
    fmt : str
        ``16``, ``61``, ``160``, ``24``, ``32``, ``80`` or ``212``.
    count : int

    Returns
    -------
    ndarray of int, shape (count,)
        In the smallest integer type that holds them; read-only where it is a view of `data`.
    """
    if fmt == "16":
        return np.frombuffer(data, dtype="<i2")
    if fmt == "61":
        return np.frombuffer(data, dtype=">i2").astype(np.int16)
    if fmt == "160":  # offset binary: the highest bit is turned
        return (np.frombuffer(data, dtype="<u2") ^ np.uint16(0x8000)).view(np.int16)
    if fmt == "80":
        return (np.frombuffer(data, dtype=np.uint8) ^ np.uint8(0x80)).view(np.int8)
    if fmt == "32":
        return np.frombuffer(data, dtype="<i4")
    triples = np.frombuffer(data + b"\0" * (-len(data) % 3), dtype=np.uint8).reshape(-1, 3)
    if fmt == "24":
        words = np.zeros((len(triples), 4), dtype=np.uint8)
        words[:, 1:] = triples
        return words.view("<i4")[:, 0] >> 8  # the sign comes along
    low, middle, high = triples.T.astype(np.int16)  # 212: two samples of 12 bits in three bytes
    pairs = np.stack([low | (middle << 8), high | (middle >> 4 << 8)], axis=1)
    return (pairs.reshape(-1)[:count] << 4) >> 4


def _read_with_wfdb(header: Header, columns: Sequence[int], frames: int) -> list[Counts]:
    import wfdb

    try:
        counts = wfdb.rdrecord(
            f"{header.folder}{header.name.removesuffix('.hea')}",
            physical=False,
            smooth_frames=False,
            ignore_skew=True,
            channels=list(columns),
        ).e_d_signal
        expected = [frames * header.layout.per_frame[column] for column in columns]
        if [len(row) for row in counts] != expected:
            raise ValueError(f"{len(counts[0])} samples found for {expected[0]}")
    except Exception as error:  # wfdb raises whatever numpy, ast or struct raised; the user needs the file's name
        raise UserError(f"{header.name}: the wfdb package cannot read this record ({reason(error)}).") from None
    return list(counts)


def _verify(
    header: Header, columns: Sequence[int], counts: Counts | Sequence[Counts], checksum: Checksum
) -> tuple[str, ...]:
    """Checksums, to 16 bits, and first samples against the header."""
    if isinstance(counts, np.ndarray):
        # wrapping around is what a sum to 16 bits is; the counts' own type is the quickest to add
        sums = counts.sum(axis=1, dtype=np.promote_types(counts.dtype, np.int16)).tolist()
        first = counts[:, 0].tolist()
    else:
        sums = [int(row.sum(dtype=np.int64)) for row in counts]
        first = [int(row[0]) for row in counts]
    notes = []
    for column, total, value in zip(columns, sums, first, strict=True):
        expected, initial = header.checksums[column], header.initial[column]
        if expected is not None and (total - expected) & 0xFFFF:
            fault = f"checksum {total & 0xFFFF} found, {header.name} says {expected & 0xFFFF}"
        elif initial is not None and value != initial:
            fault = f"first sample {value} found, {header.name} says {initial}"
        else:
            continue
        fault = f"{header.files[column]}: lead {header.layout.lead(column)}: {fault}"
        if checksum == "verify":
            raise UserError(f"{fault}: the file is damaged or the header is not its own.")
        notes.append(fault)
    return tuple(notes)
