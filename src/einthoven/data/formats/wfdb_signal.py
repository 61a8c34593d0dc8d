"""Read WFDB signal files as counts.

The plain formats are decoded here in whole arrays. The wfdb package reads the other formats. The counts are those of
the file: skew is not removed, and invalid samples are not marked.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import quote
from einthoven.data.formats.wfdb_header import DEFAULT_FS, Header
from einthoven.errors import UserError
from einthoven.files import open_inside, read_bytes, reason

Counts = NDArray[np.signedinteger]
Checksum = Literal["verify", "warn"]

# Format -> bits of three samples. `decode` reads the first group, the wfdb package the second one.
_DECODED_HERE = {"16": 48, "61": 48, "160": 48, "212": 36, "24": 72, "32": 96, "80": 24}
_DECODED_BY_WFDB = {"8": 24, "310": 32, "311": 32}
_UNCOMPRESSED = _DECODED_HERE | _DECODED_BY_WFDB

# FLAC, read by the wfdb package. A FLAC block has at least one byte and at most 2**16 samples per channel.
_COMPRESSED = ("508", "516", "524")
_MAX_SAMPLES_PER_BYTE = 2**16

_FORMATS_BY_BITS = {8: "80 508", 10: "310 311", 12: "212", 16: "16 61 160 516", 24: "24 524", 32: "32"}
INVALID = {name: -(2 ** (bits - 1)) for bits, names in _FORMATS_BY_BITS.items() for name in names.split()}
"""Signal format -> the count that marks an invalid sample: the lowest one. Format 8 has no such count."""


def read_counts(
    header: Header, wanted: Collection[int], *, checksum: Checksum = "verify"
) -> tuple[Counts | Sequence[Counts | None], tuple[str, ...]]:
    """Read the signal files that contain the wanted signals.

    Parameters
    ----------
    header : Header
        Header of a record of one segment.
    wanted : collection of int
        Columns of the signals. All signals of a file are verified, also those that are not wanted.
    checksum : "verify" or "warn"
        If a checksum or a first sample does not match the header: refuse the record, or return a note.

    Returns
    -------
    counts : ndarray of int, shape (signals, T), or sequence of (ndarray or None)
        One array if all signals are in one file in the same layout. Otherwise one array for each signal, with None
        for signals in files that are not read. T is frames times samples per frame.
    notes : tuple of str
        Differences from the header that were accepted.

    Raises
    ------
    UserError
        If a file is missing, truncated or damaged, or has an unknown format.

    References
    ----------
    WFDB signal formats, https://wfdb.io/spec/signal-files.html
    """
    # The usual case: all signals in one file. This is the fast path of packing a corpus.
    files = header.files
    all_columns = range(len(files))
    if header.layout.is_plain and files.count(files[0]) == len(files):
        counts = _read_file(header, all_columns)
        return counts, _verify(header, all_columns, counts, checksum)

    rows: list[Counts | None] = [None] * len(files)
    notes: tuple[str, ...] = ()
    for columns in _columns_by_file(header, wanted):
        counts = _read_file(header, columns)
        notes += _verify(header, columns, counts, checksum)
        for column, row in zip(columns, counts, strict=True):
            rows[column] = row
    return rows, notes


def frame_count(header: Header, wanted: Collection[int]) -> int:
    """Return the number of frames in the files of the wanted signals.

    The header states the number. If it does not, the number follows from the sizes of the files.

    Raises
    ------
    UserError
        If a file is missing or truncated, has another length than the others, or has an unknown format.
    """
    counts = []
    for columns in _columns_by_file(header, wanted):
        descriptor, size = _open(header, columns)
        try:
            counts.append(_frames_of_file(header, columns, descriptor, size))
        finally:
            os.close(descriptor)
    if len(set(counts)) > 1:
        raise UserError(
            f"{header.name}: signal files of {min(counts)} to {max(counts)} samples found; expected one length, or "
            "that of the header."
        )
    return counts[0]


def _columns_by_file(header: Header, wanted: Collection[int]) -> list[list[int]]:
    """Return the columns of each file that contains a wanted signal."""
    groups: dict[str, list[int]] = {}
    for column, file in enumerate(header.files):
        groups.setdefault(file, []).append(column)
    return [columns for columns in groups.values() if not set(columns).isdisjoint(wanted)]


def _open(header: Header, columns: Sequence[int]) -> tuple[int, int]:
    """Open the file of these columns, and return its descriptor and size."""
    layout = header.layout
    file = header.files[columns[0]]
    fmt = layout.formats[columns[0]]
    if not layout.is_plain and len({(layout.formats[column], layout.offsets[column]) for column in columns}) > 1:
        raise UserError(
            f"{header.name}: file {quote(file)} in several formats or offsets; expected one for all its signals."
        )
    if fmt not in _UNCOMPRESSED and fmt not in _COMPRESSED:
        formats = " ".join([*_UNCOMPRESSED, *_COMPRESSED])
        raise UserError(f"{header.name}: signal format {fmt} found for {quote(file)}, expected one of {formats}.")
    return open_inside(header.folder, file, header.name)


def _frames_of_file(header: Header, columns: Sequence[int], descriptor: int, size: int) -> int:
    """Return the number of frames to read from a file of `size` bytes."""
    layout = header.layout
    first = columns[0]
    fmt = layout.formats[first]
    file = header.files[first]
    offset = layout.offsets[first]
    if fmt in _COMPRESSED:
        if header.samples is None:
            raise UserError(f"{header.name}: no number of samples found; expected one, as {file} is compressed.")
        available = _flac_samples(descriptor, size, file) // layout.per_frame[first] - offset
    else:
        # Eight bits per byte and three samples make the factor 24.
        available = (size - offset) * 24 // (_UNCOMPRESSED[fmt] * _samples_per_frame(header, columns))
    frames = available if header.samples is None else header.samples
    if not 0 < frames <= available:
        raise UserError(
            f"{file}: truncated: {max(available, 0)} of {frames} samples per lead found ({size} bytes, read from "
            f"{offset} on), as {header.name} has them."
        )
    return frames


def _flac_samples(descriptor: int, size: int, file: str) -> int:
    """Return the number of samples per channel of a FLAC file, or an upper limit if the file does not state it.

    References
    ----------
    RFC 9639, section 8.2: the last 36 bits of the first 18 bytes after the marker and the header of that block.
    """
    start = read_bytes(descriptor, 26)
    if len(start) < 26 or start[:4] != b"fLaC":
        raise UserError(f"{file}: {quote(start[:4].decode('latin-1'))} found at its start, expected a FLAC file.")
    # The number 0 means that the number is unknown.
    limit = size * _MAX_SAMPLES_PER_BYTE
    stated = int.from_bytes(start[18:26]) & (2**36 - 1)
    return min(stated or limit, limit)


def _samples_per_frame(header: Header, columns: Sequence[int]) -> int:
    """Return the number of samples in a frame of a file."""
    if header.layout.is_plain:
        return len(columns)
    return sum(header.layout.per_frame[column] for column in columns)


def _read_file(header: Header, columns: Sequence[int]) -> Counts | list[Counts]:
    """Read the counts of all signals of one file."""
    layout = header.layout
    first = columns[0]
    fmt = layout.formats[first]
    file = header.files[first]
    descriptor, size = _open(header, columns)
    try:
        frames = _frames_of_file(header, columns, descriptor, size)
        width = _samples_per_frame(header, columns)
        if fmt not in _DECODED_HERE:
            return _read_with_wfdb(header, columns, descriptor, size, frames)
        # The double minus rounds up to whole bytes.
        needed = -(-frames * width * _DECODED_HERE[fmt] // 24)
        data = read_bytes(descriptor, needed, layout.offsets[first])
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({reason(error)}), though {header.name} names it.") from None
    finally:
        os.close(descriptor)
    if len(data) < needed:
        raise UserError(f"{file}: truncated while it was read: {len(data)} of {needed} bytes found.")

    # A frame contains one sample of each signal, or several samples of a signal with a higher sampling frequency.
    block = decode(data, fmt, frames * width).reshape(frames, width)
    if layout.is_plain:
        return np.array(block.T, order="C")
    ends = np.cumsum([layout.per_frame[column] for column in columns])
    return [np.array(part, order="C").reshape(-1) for part in np.split(block, ends[:-1], axis=1)]


def decode(data: bytes, fmt: str, count: int) -> Counts:
    """Decode the samples of a plain signal format.

    Parameters
    ----------
    data : bytes
        The bytes of `count` samples, rounded up to a whole byte.
    fmt : str
        ``16``, ``61``, ``160``, ``24``, ``32``, ``80`` or ``212``.
    count : int
        Number of samples.

    Returns
    -------
    ndarray of int, shape (count,)
        In the smallest integer type that can represent them. A view of `data` is read-only.
    """
    if fmt == "16":
        return np.frombuffer(data, dtype="<i2")
    if fmt == "61":
        return np.frombuffer(data, dtype=">i2").astype(np.int16)
    # 160 and 80 are offset binary: inverting the highest bit gives two's complement.
    if fmt == "160":
        return (np.frombuffer(data, dtype="<u2") ^ np.uint16(0x8000)).view(np.int16)
    if fmt == "80":
        return (np.frombuffer(data, dtype=np.uint8) ^ np.uint8(0x80)).view(np.int8)
    if fmt == "32":
        return np.frombuffer(data, dtype="<i4")

    # 24 has one sample in three bytes. The low byte of the word stays zero, and the shift extends the sign.
    triples = np.frombuffer(data + b"\0" * (-len(data) % 3), dtype=np.uint8).reshape(-1, 3)
    if fmt == "24":
        words = np.zeros((len(triples), 4), dtype=np.uint8)
        words[:, 1:] = triples
        return words.view("<i4")[:, 0] >> 8

    # 212 has two samples of 12 bits in three bytes. The two shifts at the end extend the sign.
    low, middle, high = triples.T.astype(np.int16)
    pairs = np.stack([low | (middle << 8), high | (middle >> 4 << 8)], axis=1)
    return (pairs.reshape(-1)[:count] << 4) >> 4


def _read_with_wfdb(header: Header, columns: Sequence[int], descriptor: int, size: int, frames: int) -> list[Counts]:
    """Read counts with the wfdb package, from a copy of the signal file with a plain header.

    The package does not find a file whose name differs in upper and lower case, and needs a number of samples.
    """
    import wfdb

    layout = header.layout
    lines = [f"copy {len(columns)} {DEFAULT_FS:g} {frames}"]
    for column in columns:
        fmt = f"{layout.formats[column]}x{layout.per_frame[column]}+{layout.offsets[column]}"
        lines.append(f"copy.dat {fmt} 1/mV 16 0 {header.initial[column] or 0} 0 0 signal {column}")
    folder = ""
    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "copy.dat").write_bytes(read_bytes(descriptor, size))
            (Path(folder) / "copy.hea").write_text("\n".join(lines) + "\n")
            record = wfdb.rdrecord(f"{folder}/copy", physical=False, smooth_frames=False, ignore_skew=True)
        counts = record.e_d_signal
        expected = [frames * layout.per_frame[column] for column in columns]
        if [len(row) for row in counts] != expected:
            raise ValueError(f"{len(counts[0])} samples found for {expected[0]}")
    # wfdb has no exception of its own: NumPy, ast and struct raise theirs. The user needs the name of the file.
    except Exception as error:
        message = reason(error).replace(f"{folder}/copy.dat", header.files[columns[0]])
        raise UserError(f"{header.name}: the wfdb package cannot read this record ({message}).") from None
    return list(counts)


def _verify(
    header: Header, columns: Sequence[int], counts: Counts | Sequence[Counts], checksum: Checksum
) -> tuple[str, ...]:
    """Compare 16-bit checksums and first samples with the header, and return notes about differences."""
    # A sum in 16 bits may overflow: the checksum is defined modulo 2**16. The type of the counts is the fastest one.
    if isinstance(counts, np.ndarray):
        sums = counts.sum(axis=1, dtype=np.promote_types(counts.dtype, np.int16)).tolist()
        first_samples = counts[:, 0].tolist()
    else:
        sums = [int(row.sum(dtype=np.int64)) for row in counts]
        first_samples = [int(row[0]) for row in counts]

    notes = []
    for column, total, first_sample in zip(columns, sums, first_samples, strict=True):
        stated_sum = header.checksums[column]
        stated_sample = header.initial[column]
        if stated_sum is not None and (total - stated_sum) & 0xFFFF:
            difference = f"checksum {total & 0xFFFF} found, {header.name} says {stated_sum & 0xFFFF}"
        elif stated_sample is not None and first_sample != stated_sample:
            difference = f"first sample {first_sample} found, {header.name} says {stated_sample}"
        else:
            continue
        note = f"{header.files[column]}: lead {header.layout.lead(column)}: {difference}"
        if checksum == "verify":
            raise UserError(f"{note}: the file is damaged or the header belongs to another file.")
        notes.append(note)
    return tuple(notes)
