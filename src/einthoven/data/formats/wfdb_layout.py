"""The signal lines of a WFDB header.

The headers of a corpus differ in file names, initial values and checksums, but have few different layouts (formats,
gains, names). A layout is parsed once and cached.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from einthoven.data.formats.channels import quote

# These expressions match in linear time, because a stranger could write a header that makes a slow expression hang.
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_FORMAT = re.compile(r"([0-9]{1,4})(?:x(0|[1-9][0-9]{0,8}))?(?::([0-9]{1,9}))?(?:\+([0-9]{1,18}))?")
_GAIN = re.compile(rf"({_NUMBER.pattern})(?:\(([-+]?[0-9]{{1,10}})\))?(?:/(\S+))?")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_INTEGERS = re.compile(rf"(?:{_INTEGER.pattern})?(?: (?:{_INTEGER.pattern})?)*")
_FIELDS = "expected 'file format gain/unit bits zero initial checksum block lead'"


@dataclass(frozen=True, eq=False)
class Layout:
    """The fields of the signal lines, except file, initial value and checksum. One entry per signal.

    Attributes
    ----------
    names, formats, units : tuple of str
        A unit is empty if the header states none.
    per_frame : tuple of int
        Samples per frame.
    skews : tuple of int
        Number of frames by which the signal is late in its file.
    offsets : tuple of int
        Position of the first sample in the file, in bytes (in samples for the compressed formats).
    gains : tuple of float
        Counts per unit.
    baselines : tuple of int
        The count of 0 V.
    is_plain : bool
        All signals have one format and one offset, one sample per frame, and no skew.
    """

    names: tuple[str, ...]
    formats: tuple[str, ...]
    per_frame: tuple[int, ...]
    skews: tuple[int, ...]
    offsets: tuple[int, ...]
    gains: tuple[float, ...]
    baselines: tuple[int, ...]
    units: tuple[str, ...]
    is_plain: bool

    def lead(self, column: int) -> str:
        """Return the name of a signal for a message. A long or unprintable name is quoted."""
        name = self.names[column]
        return name if name.isprintable() and len(name) <= 20 else quote(name)


def parse_signal_lines(
    rows: list[list[str]],
) -> tuple[Layout, tuple[str, ...], tuple[int | None, ...], tuple[int | None, ...]]:
    """Parse layout, files, initial values and checksums. Raise ValueError if a field cannot be read."""
    if not rows:
        return _parse_layout((), (), (), (), (), ()), (), (), ()
    # Fill up lines whose last fields are missing.
    rows = [row if len(row) == 9 else [*row, *[""] * (9 - len(row))] for row in rows]
    files, formats, gains, bits, zeros, initial, checksums, blocks, names = zip(*rows, strict=True)
    layout = _parse_layout(formats, gains, bits, zeros, blocks, names)
    return layout, files, _parse_optional_integers(initial), _parse_optional_integers(checksums)


@lru_cache(maxsize=64)
def _parse_layout(
    formats: tuple[str, ...],
    gains: tuple[str, ...],
    bits: tuple[str, ...],
    zeros: tuple[str, ...],
    blocks: tuple[str, ...],
    names: tuple[str, ...],
) -> Layout:
    # These fields are not needed, but they have to be integers.
    _parse_optional_integers(bits)
    _parse_optional_integers(blocks)

    signals = []
    for fmt, gain, zero in zip(formats, gains, _parse_optional_integers(zeros), strict=True):
        signals.append(_parse_signal(fmt, gain, zero or 0))
    if not signals:
        return Layout((), (), (), (), (), (), (), (), is_plain=False)
    file_formats, per_frame, skews, offsets, counts_per_unit, baselines, units = zip(*signals, strict=True)
    have_one_layout = len({signal[:4] for signal in signals}) == 1
    is_plain = have_one_layout and per_frame[0] == 1 and skews[0] == 0
    return Layout(names, file_formats, per_frame, skews, offsets, counts_per_unit, baselines, units, is_plain)


def _parse_signal(fmt: str, gain: str, zero: int) -> tuple[str, int, int, int, float, int, str]:
    """Parse the fields format and gain: format, samples per frame, skew, offset, gain, baseline, unit."""
    format_match = _FORMAT.fullmatch(fmt)
    gain_match = _GAIN.fullmatch(gain)
    if format_match is None or gain_match is None or format_match[2] == "0":
        raise ValueError
    # Without a baseline, the zero of the converter is the count of 0 V.
    baseline = zero if gain_match[2] is None else int(gain_match[2])
    return (
        format_match[1],
        int(format_match[2] or 1),
        int(format_match[3] or 0),
        int(format_match[4] or 0),
        float(gain_match[1]),
        baseline,
        gain_match[3] or "",
    )


def signal_line_error(rows: list[list[str]], lines: list[str], name: str) -> str:
    """Return the message about the first signal line that cannot be read."""
    for row, line in zip(rows, lines, strict=True):
        if len(row) < 3:
            return f"{name}: signal line {quote(line)} is too short; {_FIELDS}."
        try:
            parse_signal_lines([row])
        except ValueError:
            return f"{name}: signal line {quote(line)} cannot be read; {_FIELDS}."
    raise AssertionError("every signal line can be read alone, but not all of them together")


def _parse_optional_integers(fields: Iterable[str]) -> tuple[int | None, ...]:
    """Parse integers; an empty field is None. One match of the joined fields is faster than a match of each."""
    fields = tuple(fields)
    if _INTEGERS.fullmatch(" ".join(fields)) is None:
        raise ValueError
    return tuple([int(field) if field else None for field in fields])


def parse_integer(text: str) -> int:
    """Parse an integer in ASCII digits. Python's `int` would also accept ``1_0``."""
    if _INTEGER.fullmatch(text) is None:
        raise ValueError
    return int(text)


def parse_number(text: str) -> float:
    """Parse a number in ASCII digits. Python's `float` would also accept ``nan``."""
    if _NUMBER.fullmatch(text) is None:
        raise ValueError
    return float(text)
