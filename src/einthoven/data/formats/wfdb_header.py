"""WFDB headers: text -> `Header`, or a sentence that says which line cannot be read.

A corpus has few distinct layouts and many records, so that what is common to the signal lines of its headers
(formats, gains, names) is parsed once and kept; file names, initial values and checksums are read from each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from einthoven.data.formats.channels import shown
from einthoven.errors import UserError
from einthoven.files import open_descriptor, open_inside, read_bytes, reason

LIMIT = 2**20  # bytes of a header; that of a 12-lead ECG has about a thousand
DEFAULT_FS, DEFAULT_UNIT = 250.0, "mV"  # where a header leaves them out: the format's own defaults
_MAX_FS = 1e6  # Hz

# each of these reads any text in time proportional to its length: a header may be made to be slow
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_FORMAT = re.compile(r"([0-9]{1,4})(?:x(0|[1-9][0-9]{0,8}))?(?::([0-9]{1,9}))?(?:\+([0-9]{1,18}))?")
_GAIN = re.compile(rf"({_NUMBER.pattern})(?:\(([-+]?[0-9]{{1,10}})\))?(?:/(\S+))?")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_INTEGERS = re.compile(rf"(?:{_INTEGER.pattern})?(?: (?:{_INTEGER.pattern})?)*")
_FIELDS = "expected 'file format gain/unit bits zero initial checksum block lead'"


@dataclass(frozen=True, eq=False)
class Layout:
    """What the signal lines say of each signal, apart from its file, initial value and checksum.

    Attributes
    ----------
    names, formats, units : tuple of str
        A unit is empty where it is left out.
    per_frame : tuple of int
        Samples per frame.
    skews : tuple of int
        Frames by which a signal starts later in the file than the others.
    offsets : tuple of int
        Position of the first sample in the file: bytes (samples in the compressed formats).
    gains : tuple of float
        Counts per unit.
    baselines : tuple of int
        The count that means 0 V.
    plain : bool
        One format and offset for all signals, one sample per frame, no skew.
    """

    names: tuple[str, ...]
    formats: tuple[str, ...]
    per_frame: tuple[int, ...]
    skews: tuple[int, ...]
    offsets: tuple[int, ...]
    gains: tuple[float, ...]
    baselines: tuple[int, ...]
    units: tuple[str, ...]
    plain: bool

    def lead(self, column: int) -> str:
        """Name of a signal as it can stand in a sentence."""
        name = self.names[column]
        return name if name.isprintable() and len(name) <= 20 else shown(name)


@dataclass(frozen=True, eq=False)
class Header:
    """The header of a WFDB record or of one of its segments.

    Attributes
    ----------
    folder, name : str
        Where the header lies, up to the last slash, and its file name.
    fs : float
        Frames per second.
    samples : int or None
        Frames; None where the header leaves it out.
    count : int
        Number of signals.
    layout : Layout
        Of the signals; empty in a record of several segments.
    files, initial, checksums : tuple
        Signal file, first count and 16-bit sum of the counts of each signal; None where the header leaves them out.
    segments : tuple of (str, int)
        Name and number of frames of each segment; empty in a record of one segment.
    comments : tuple of str
        The comment lines, without ``#``.
    notes : tuple of str
        What the record line leaves out.
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
    file = os.fspath(path)
    stem, _, suffix = file.rpartition(".")
    if suffix != "hea":
        file = f"{stem if suffix in ('dat', 'mat') else file}.hea"
    folder, slash, name = file.rpartition("/")
    try:
        descriptor, size = open_descriptor(file)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise UserError(
            f"{file.replace(chr(0), '?')}: cannot be read ({reason(error)}); expected a WFDB header."
        ) from None
    return parse_header(_text(descriptor, size, name), folder + slash, name)


def read_segment_header(master: Header, segment: str) -> Header:
    """Read the header of a segment of a record; unlike a record, it may have no signals or no samples.

    Raises
    ------
    UserError
        If it is missing, lies outside the record's folder or cannot be read.
    """
    name = f"{segment}.hea"
    descriptor, size = open_inside(master.folder, name, master.name)
    return parse_header(_text(descriptor, size, name), master.folder, name, segment=True)


def _text(descriptor: int, size: int, name: str) -> str:
    try:
        if size > LIMIT:
            raise UserError(f"{name}: a header of {size} bytes found, expected at most {LIMIT}.")
        data = read_bytes(descriptor, size)
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({reason(error)}); expected a WFDB header.") from None
    finally:
        os.close(descriptor)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not a text file in UTF-8 (byte {error.start}); expected a WFDB header.") from None


@lru_cache(maxsize=2)  # packing asks which files a record has, and then reads it
def parse_header(text: str, folder: str, name: str, *, segment: bool = False) -> Header:
    """Parse the text of a header.

    Parameters
    ----------
    text : str
    folder, name : str
        Where the header lies, up to the last slash, and its file name.
    segment : bool
        The header is that of a segment: it may have no signals or no samples.

    Raises
    ------
    UserError
        If one of its lines cannot be read.
    """
    lines, comments = [], []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#"):
            comments.append(line.lstrip("# \t"))
        elif line:
            lines.append(line)
    if not lines:
        raise UserError(f"{name}: empty; expected a WFDB header.")
    segments, count, fs, samples, notes = _record_line(lines[0], name, segment)
    expected = count if segments is None else segments
    if len(lines) - 1 < expected:
        kind = "signal" if segments is None else "segment"
        raise UserError(f"{name}: {len(lines) - 1} {kind} lines found, expected {expected}.")
    rest = lines[1 : expected + 1]
    parts = () if segments is None else tuple(_segment_line(line, name) for line in rest)
    rows = [] if parts else [line.split(None, 8) for line in rest]
    try:
        layout, files, initial, checksums = _signal_lines(rows)
    except ValueError:
        raise UserError(_first_refused(rows, rest, name)) from None
    return Header(folder, name, fs, samples, count, layout, files, initial, checksums, parts, tuple(comments), notes)


def _record_line(line: str, name: str, segment: bool) -> tuple[int | None, int, float, int | None, tuple[str, ...]]:
    """Number of segments (None: not a multi-segment record), number of signals, fs, samples, notes."""
    fields = line.split()
    _, several, segments = fields[0].partition("/")
    try:
        parts = _integer(segments) if several else None
        count = _integer(fields[1])
        fs = _number(fields[2].partition("/")[0].partition("(")[0]) if len(fields) > 2 else DEFAULT_FS
        samples = _integer(fields[3]) if len(fields) > 3 else None
    except (IndexError, ValueError):
        raise UserError(
            f"{name}: record line {shown(line)} cannot be read; expected 'name signals fs samples'."
        ) from None
    least = 0 if segment else 1
    if count < least or not 0 < fs < _MAX_FS or (samples is not None and samples < least):
        raise UserError(
            f"{name}: {count} signals, {fs:g} Hz, {samples} samples found in the record line; "
            "expected positive numbers (fs below 1 MHz)."
        )
    if parts is not None and (segment or parts < 1):
        inside = "a multi-segment record inside another" if segment else f"{parts} segments"
        raise UserError(f"{name}: {inside} found; expected {'one segment' if segment else 'at least one'}.")
    notes = () if len(fields) > 2 else (f"no sampling frequency: {fs:g} Hz, as the format has it",)
    return parts, count, fs, samples, notes


def _segment_line(line: str, name: str) -> tuple[str, int]:
    fields = line.split()
    try:
        length = _integer(fields[1])
        if length < 0:
            raise ValueError
    except (IndexError, ValueError):
        raise UserError(f"{name}: segment line {shown(line)} cannot be read; expected 'name samples'.") from None
    return fields[0], length


def _signal_lines(
    rows: list[list[str]],
) -> tuple[Layout, tuple[str, ...], tuple[int | None, ...], tuple[int | None, ...]]:
    """Layout, files, initial values and checksums; ValueError where a field cannot be read."""
    if not rows:
        return _layout((), (), (), (), (), ()), (), (), ()
    full = [row if len(row) == 9 else [*row, *[""] * (9 - len(row))] for row in rows]
    files, formats, gains, bits, zeros, initial, checksums, blocks, names = zip(*full, strict=True)
    layout = _layout(formats, gains, bits, zeros, blocks, names)
    return layout, files, _optional_integers(initial), _optional_integers(checksums)


@lru_cache(maxsize=64)
def _layout(
    formats: tuple[str, ...],
    gains: tuple[str, ...],
    bits: tuple[str, ...],
    zeros: tuple[str, ...],
    blocks: tuple[str, ...],
    names: tuple[str, ...],
) -> Layout:
    for unused in (bits, blocks):
        _optional_integers(unused)
    specs = [
        _signal(fmt, gain, zero or 0) for fmt, gain, zero in zip(formats, gains, _optional_integers(zeros), strict=True)
    ]
    fmt, per_frame, skews, offsets, gain, baselines, units = zip(*specs, strict=True) if specs else ((),) * 7
    plain = len({spec[:4] for spec in specs}) == 1 and per_frame[0] == 1 and skews[0] == 0
    return Layout(names, fmt, per_frame, skews, offsets, gain, baselines, units, plain)


def _signal(fmt: str, gain: str, zero: int) -> tuple[str, int, int, int, float, int, str]:
    layout, calibration = _FORMAT.fullmatch(fmt), _GAIN.fullmatch(gain)
    if layout is None or calibration is None or layout[2] == "0":
        raise ValueError
    return (
        layout[1],
        int(layout[2] or 1),
        int(layout[3] or 0),
        int(layout[4] or 0),
        float(calibration[1]),
        zero if calibration[2] is None else int(calibration[2]),
        calibration[3] or "",
    )


def _first_refused(rows: list[list[str]], lines: list[str], name: str) -> str:
    for row, line in zip(rows, lines, strict=True):
        if len(row) < 3:
            return f"{name}: signal line {shown(line)} is too short; {_FIELDS}."
        try:
            _signal_lines([row])
        except ValueError:
            return f"{name}: signal line {shown(line)} cannot be read; {_FIELDS}."
    raise AssertionError("a signal line that is refused among others and read alone")


def _optional_integers(fields: Iterable[str]) -> tuple[int | None, ...]:
    fields = tuple(fields)
    if _INTEGERS.fullmatch(" ".join(fields)) is None:
        raise ValueError
    return tuple([int(field) if field else None for field in fields])


def _integer(text: str) -> int:
    """An integer in ASCII digits; Python's own would read ``1_0``, too."""
    if _INTEGER.fullmatch(text) is None:
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError
    return float(text)
