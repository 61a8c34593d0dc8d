"""Parse WFDB headers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from einthoven.data.formats.channels import quote
from einthoven.data.formats.wfdb_layout import (
    Layout,
    parse_integer,
    parse_number,
    parse_signal_lines,
    signal_line_error,
)
from einthoven.errors import UserError
from einthoven.files import open_descriptor, open_inside, read_bytes, reason

LIMIT = 2**20
"""Largest size of a header in bytes. The header of a 12-lead ECG has about a thousand bytes."""

# Defaults of the WFDB specification, in Hz and as a unit.
DEFAULT_FS = 250.0
DEFAULT_UNIT = "mV"

_MAX_FS = 1e6


@dataclass(frozen=True, eq=False)
class Header:
    """The header of a WFDB record or of one of its segments.

    Attributes
    ----------
    folder, name : str
        Folder of the header with a slash at its end, and file name of the header.
    fs : float
        Frames per second.
    samples : int or None
        Number of frames; None if the header does not state it, or states 0.
    count : int
        Number of signals.
    layout : Layout
        Empty in a record of several segments.
    files : tuple of str
        Signal file of each signal.
    initial, checksums : tuple of (int or None)
        First count and 16-bit sum of the counts of each signal; None if the header does not state it.
    segments : tuple of (str, int)
        Name and number of frames of each segment; empty in a record of one segment.
    comments : tuple of str
        The comment lines without ``#``.
    notes : tuple of str
        Which defaults were assumed.
    """

    folder: str
    name: str
    fs: float
    samples: int | None
    count: int
    layout: Layout
    files: tuple[str, ...]
    initial: tuple[int | None, ...]
    checksums: tuple[int | None, ...]
    segments: tuple[tuple[str, int], ...]
    comments: tuple[str, ...]
    notes: tuple[str, ...]


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read the header of a record.

    Parameters
    ----------
    path : path
        The header (``.hea``), its signal file (``.dat``, ``.mat``) or their common stem.

    Raises
    ------
    UserError
        If the header is missing or too large, or one of its lines cannot be read.

    References
    ----------
    WFDB header specification, https://wfdb.io/spec/header-files.html
    """
    file = header_file(os.fspath(path))
    folder, slash, name = file.rpartition("/")
    # A zero byte in the path raises ValueError.
    try:
        descriptor, size = open_descriptor(file)
    except (OSError, ValueError) as error:
        # A missing file such as ecg.pdf is more likely than a record of this name.
        if isinstance(error, FileNotFoundError) and "." in name.removesuffix(".hea"):
            raise UserError(f"{path}: no such file, and no WFDB header {name}.") from None
        raise UserError(
            f"{file.replace(chr(0), '?')}: cannot be read ({reason(error)}); expected a WFDB header."
        ) from None
    return parse_header(_read_text(descriptor, size, name), folder + slash, name)


def header_file(path: str) -> str:
    """Return the header of a WFDB record, given the header, a signal file or their common stem.

    Copies from other file systems change the case of names: if there is no ``.hea``, the header can be a ``.HEA``.
    """
    stem, _, suffix = path.rpartition(".")
    lower_suffix = suffix.lower()
    if lower_suffix == "hea":
        return path
    if lower_suffix not in ("dat", "mat"):
        stem = path
    upper = f"{stem}.HEA"
    is_upper = not os.path.lexists(f"{stem}.hea") and os.path.lexists(upper)
    return upper if is_upper else f"{stem}.hea"


def read_segment_header(master: Header, segment: str) -> Header:
    """Read the header of a segment. Unlike a record, a segment may have no signals.

    Parameters
    ----------
    master : Header
        Header of the record.
    segment : str
        Name of the segment.

    Raises
    ------
    UserError
        If the header is missing, is outside the record's folder, or cannot be read.
    """
    name = f"{segment}.hea"
    descriptor, size = open_inside(master.folder, name, master.name)
    return parse_header(_read_text(descriptor, size, name), master.folder, name, segment=True)


def _read_text(descriptor: int, size: int, name: str) -> str:
    try:
        if size > LIMIT:
            raise UserError(f"{name}: a header of {size} bytes found, expected at most {LIMIT}.")
        data = read_bytes(descriptor, size)
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({reason(error)}); expected a WFDB header.") from None
    finally:
        os.close(descriptor)
    # A header of an older program can have a comment or a unit in Latin-1, in which every byte is a character.
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


# Packing parses a header twice: to find the files of the record, and to read the record.
@lru_cache(maxsize=2)
def parse_header(text: str, folder: str, name: str, *, segment: bool = False) -> Header:
    """Parse the text of a header.

    Parameters
    ----------
    text : str
    folder, name : str
        Folder of the header with a slash at its end, and file name of the header.
    segment : bool
        Whether this is the header of a segment. A segment may have no signals.

    Raises
    ------
    UserError
        If one of its lines cannot be read.
    """
    # Separate comments from the other lines.
    lines = []
    comments = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#"):
            comments.append(line.lstrip("# \t"))
        elif line:
            lines.append(line)
    if not lines:
        raise UserError(f"{name}: empty; expected a WFDB header.")

    # The record line states how many signal lines or segment lines follow.
    segment_count, signal_count, fs, samples, notes = _parse_record_line(lines[0], name, segment)
    is_multi_segment = segment_count is not None
    expected = signal_count if segment_count is None else segment_count
    if len(lines) - 1 < expected:
        kind = "segment" if is_multi_segment else "signal"
        raise UserError(f"{name}: {len(lines) - 1} {kind} lines found, expected {expected}.")
    following = lines[1 : expected + 1]

    # A signal line has up to nine fields. The last one, the name of the lead, may contain blanks.
    segments: tuple[tuple[str, int], ...] = ()
    rows: list[list[str]] = []
    if is_multi_segment:
        segments = tuple(_parse_segment_line(line, name) for line in following)
    else:
        rows = [line.split(None, 8) for line in following]
    try:
        layout, files, initial, checksums = parse_signal_lines(rows)
    except ValueError:
        raise UserError(signal_line_error(rows, following, name)) from None
    return Header(
        folder=folder,
        name=name,
        fs=fs,
        samples=samples,
        count=signal_count,
        layout=layout,
        files=files,
        initial=initial,
        checksums=checksums,
        segments=segments,
        comments=tuple(comments),
        notes=notes,
    )


def _parse_record_line(
    line: str, name: str, is_segment: bool
) -> tuple[int | None, int, float, int | None, tuple[str, ...]]:
    """Parse the first line: number of segments (None in a record of one), number of signals, fs, samples, notes."""
    fields = line.split()
    _, slash, segment_field = fields[0].partition("/")
    notes: tuple[str, ...] = ()
    try:
        segment_count = parse_integer(segment_field) if slash else None
        signal_count = parse_integer(fields[1])
        if len(fields) > 2:
            # The field can be "fs/counter frequency(base counter)".
            fs = parse_number(fields[2].partition("/")[0].partition("(")[0])
        else:
            fs = DEFAULT_FS
            notes = (f"no sampling frequency: {fs:g} Hz, the default of the format",)
        # The specification: 0 samples means that the header does not state the number.
        samples = (parse_integer(fields[3]) or None) if len(fields) > 3 else None
    except (IndexError, ValueError):
        raise UserError(
            f"{name}: record line {quote(line)} cannot be read; expected 'name signals fs samples'."
        ) from None

    minimum = 0 if is_segment else 1
    has_valid_samples = samples is None or samples > 0
    if signal_count < minimum or not 0 < fs < _MAX_FS or not has_valid_samples:
        raise UserError(
            f"{name}: {signal_count} signals, {fs:g} Hz, {samples} samples found in the record line; "
            "expected positive numbers (fs below 1 MHz)."
        )
    if segment_count is not None and is_segment:
        raise UserError(f"{name}: a multi-segment record inside another found; expected one segment.")
    if segment_count is not None and segment_count < 1:
        raise UserError(f"{name}: {segment_count} segments found; expected at least one.")
    return segment_count, signal_count, fs, samples, notes


def _parse_segment_line(line: str, name: str) -> tuple[str, int]:
    """Parse name and number of frames of a segment."""
    fields = line.split()
    try:
        length = parse_integer(fields[1])
        if length < 0:
            raise ValueError
    except (IndexError, ValueError):
        raise UserError(f"{name}: segment line {quote(line)} cannot be read; expected 'name samples'.") from None
    return fields[0], length
