"""A WFDB record of one or several segments -> the wanted leads, in mV or as int16 µV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import LeadMap, lead_map, millivolts
from einthoven.data.formats.record import Record
from einthoven.data.formats.wfdb_header import DEFAULT_UNIT, Header, Layout, read_header, read_segment_header
from einthoven.data.formats.wfdb_signal import INVALID, Checksum, Counts, frame_count, read_counts
from einthoven.errors import UserError
from einthoven.functional.conform import rounded

_GAINS = (1e-3, 1e9)  # counts per mV; the ECGs of this world lie well between
_GAP = "~"  # a segment of this name: nothing was recorded
_MOST_GAPS = 1000  # samples of a record for each one that its files hold


@dataclass(frozen=True)
class _Part:
    """A segment: its frames in the record, and the signals (in the record -> in the segment) that are used."""

    header: Header
    start: int
    frames: int
    columns: dict[int, int]


@dataclass(frozen=True)
class _Plan:
    """What to read of a record, and what to make of it; nothing but headers and sizes of files is read for it."""

    parts: list[_Part]
    leads: LeadMap
    fs: float
    per_frame: int
    samples: int
    notes: tuple[str, ...]


def read_wfdb(path: str | Path, want: tuple[str, ...], checksum: Checksum) -> Record:
    """Read the wanted leads of a record in mV; NaN where samples are invalid or not recorded.

    Leads of several samples per frame come at their own rate; where they differ in it, at that of the frames, each
    sample the mean of a frame, rounded towards zero to a count, as the WFDB library has it.

    Raises
    ------
    UserError
        If a file is missing, truncated or damaged, a lead is missing or doubled, or a unit is unknown.
    """
    header = read_header(path)
    plan = _plan(header, want)
    signal = np.full((len(want), plan.samples), np.nan, dtype=np.float32)
    faults: list[str] = []
    for lead, where, row in _rows(plan, checksum, 1.0, faults):
        signal[lead, where] = row
    notes = (*header.notes, *plan.leads.notes, *plan.notes, *faults)
    return Record(signal, plan.fs, want, header.name.removesuffix(".hea"), notes, header.comments)


def read_wfdb_microvolts(
    path: str | Path, want: tuple[str, ...], checksum: Checksum
) -> tuple[NDArray[np.int16], float, int, int]:
    """Read the wanted leads of a record as int16 µV: signal, fs, number of invalid and of clipped samples.

    Each is the float64 amplitude in µV rounded half to even; invalid samples are 0. Where a count is a microvolt
    already, as in PTB-XL, none is turned into a float: this is what packing a corpus runs through.

    Raises
    ------
    UserError
        As `read_wfdb`.
    """
    header = read_header(path)
    if not header.segments and (order := _microvolt_columns(header.layout, want)) is not None:
        counts, _ = read_counts(header, order, checksum=checksum)
        if isinstance(counts, np.ndarray) and counts.dtype.itemsize <= 2:
            signal = (counts if order == range(len(counts)) else counts[list(order)]).astype(np.int16, copy=False)
            lowest = INVALID[header.layout.formats[0]]
            if signal.min() > lowest:
                return signal, header.fs, 0, 0
            invalid = signal == lowest
            signal[invalid] = 0
            return signal, header.fs, int(np.count_nonzero(invalid)), 0

    plan = _plan(header, want)
    signal, valid, clipped = np.zeros((len(want), plan.samples), dtype=np.int16), 0, 0
    for lead, where, row in _rows(plan, checksum, 1000.0, []):
        signal[lead, where], bad, beyond = rounded(row)
        valid += len(row) - int(np.count_nonzero(bad))
        clipped += int(np.count_nonzero(beyond))
    return signal, plan.fs, signal.size - valid, clipped


@lru_cache(maxsize=64)
def _microvolt_columns(layout: Layout, want: tuple[str, ...]) -> Sequence[int] | None:
    """Column of each wanted lead where all is plain and a count is a µV; None where it is not so simple."""
    try:
        order = lead_map(layout.names, want, "").order
        if (
            not layout.plain
            or order is None
            or any(layout.gains[c] != 1000 * _unit(layout, c, "") or layout.baselines[c] != 0 for c in order)
        ):
            return None
    except UserError:  # said with the file's name by the way that reads all records
        return None
    return range(len(layout.names)) if order == tuple(range(len(layout.names))) else order


def _plan(header: Header, want: tuple[str, ...]) -> _Plan:
    segments, names = _segments(header) if header.segments else ([(header.samples, header)], header.layout.names)
    leads = lead_map(names, want, header.name)
    used = np.flatnonzero(leads.matrix.any(axis=0)).tolist()
    parts, start, held, absent = [], 0, {}, 0
    for length, segment in segments:
        columns = {} if segment is None else _columns(segment.layout.names, names, used)
        absent += len(columns) < len(used)
        if segment is not None and columns:
            if segment.name not in held:
                held[segment.name] = frame_count(segment, columns.values())
                _check_signals(segment, columns.values(), held[segment.name])
            found = held[segment.name]
            length = found if length is None else length
            if length != found:
                raise UserError(f"{segment.name}: {found} samples per lead found, {header.name} says {length}.")
            parts.append(_Part(segment, start, length, columns))
        start += length or 0
    if start == 0:
        raise UserError(f"{header.name}: no samples of {' '.join(want)} found; expected a segment that holds some.")
    if start > _MOST_GAPS * sum(held.values()):  # memory is taken for all of it
        raise UserError(
            f"{header.name}: {start} samples per lead found, of which the files hold {sum(held.values())}; expected "
            f"at least one in {_MOST_GAPS}."
        )

    rates = {part.header.layout.per_frame[column] for part in parts for column in part.columns.values()}
    per_frame, notes = rates.pop() if len(rates) == 1 else 1, []
    if rates:
        notes.append(f"leads of several rates averaged over each frame, to {header.fs:g} Hz")
    if any(not part.header.layout.units[column] for part in parts for column in part.columns.values()):
        notes.append(f"leads without a unit taken as {DEFAULT_UNIT}, as the format has it")
    if absent:
        notes.append(f"NaN in {absent} of {len(segments)} segments, which lack some or all of the leads")
    return _Plan(parts, leads, header.fs * per_frame, per_frame, start * per_frame, tuple(notes))


def _check_signals(header: Header, columns: Iterable[int], frames: int) -> None:
    for column in columns:
        _unit(header.layout, column, header.name)
        if header.layout.skews[column] >= frames:
            raise UserError(
                f"{header.name}: lead {header.layout.lead(column)}: skew of {header.layout.skews[column]} samples "
                f"found, expected less than the {frames} of the record."
            )


def _segments(header: Header) -> tuple[list[tuple[int | None, Header | None]], tuple[str, ...]]:
    """Length and header of each segment (None for a gap), and the names of the record's signals.

    In a fixed layout they are those of the first segment. In a variable one, a first segment of length 0 has the
    names alone, and each segment holds some of them.
    """
    known: dict[str, Header] = {}
    segments: list[tuple[int | None, Header | None]] = []
    for name, length in header.segments:
        if name == _GAP:
            segments.append((length, None))
            continue
        if name not in known:
            known[name] = read_segment_header(header, name)
        segment = known[name]
        if segment.fs != header.fs or segment.samples not in (None, length):
            raise UserError(
                f"{segment.name}: {segment.samples} samples at {segment.fs:g} Hz found, {header.name} says {length} at "
                f"{header.fs:g} Hz."
            )
        segments.append((length, segment if segment.count else None))
    total = sum(length or 0 for length, _ in segments)
    if header.samples not in (None, total):
        raise UserError(f"{header.name}: segments of {total} samples found, its record line says {header.samples}.")
    if header.segments[0][1] == 0:
        layout, segments = segments[0][1], segments[1:]
        if layout is None:
            raise UserError(f"{header.name}: no layout found; expected a first segment that names the signals.")
        return segments, layout.layout.names
    first = next((segment for _, segment in segments if segment is not None), None)
    if first is None:
        raise UserError(f"{header.name}: nothing but gaps found; expected a segment with signals.")
    return segments, first.layout.names


def _columns(names: tuple[str, ...], record: tuple[str, ...], used: Sequence[int]) -> dict[int, int]:
    """Column in a segment of each used signal: by place where all names are the same, else by name."""
    if names == record:
        return {column: column for column in used}
    return {column: names.index(record[column]) for column in used if record[column] in names}


def _rows(
    plan: _Plan, checksum: Checksum, per_millivolt: float, faults: list[str]
) -> Iterator[tuple[int, slice, NDArray[np.float64]]]:
    """Index of a lead, its samples in the record, and their amplitudes, for each lead of each segment that has it."""
    for part in plan.parts:
        counts, found = read_counts(part.header, part.columns.values(), checksum=checksum)
        faults.extend(found)
        where = slice(part.start * plan.per_frame, (part.start + part.frames) * plan.per_frame)
        for lead, weights in enumerate(plan.leads.matrix):
            used = np.flatnonzero(weights).tolist()
            if all(column in part.columns for column in used):
                terms = [
                    weights[column] * _amplitudes(part.header, counts, part.columns[column], plan, per_millivolt)
                    for column in used
                ]
                yield lead, where, sum(terms[1:], start=terms[0])


def _amplitudes(
    header: Header,
    counts: Counts | Sequence[Counts | None],
    column: int,
    plan: _Plan,
    per_millivolt: float,
) -> NDArray[np.float64]:
    """Amplitudes of a signal, in mV or µV; NaN where it is invalid, or ends before the others by its skew."""
    layout, row = header.layout, counts[column]
    assert row is not None
    invalid = row == INVALID.get(layout.formats[column], np.nan)
    if layout.per_frame[column] != plan.per_frame:
        invalid = invalid.reshape(-1, layout.per_frame[column]).any(axis=1)
        frames = row.reshape(-1, layout.per_frame[column])
        row = np.trunc(frames.sum(axis=1, dtype=np.int64) / layout.per_frame[column])
    values = (row.astype(np.float64) - layout.baselines[column]) / layout.gains[column]
    scale = _unit(layout, column, header.name) * per_millivolt
    if scale != 1.0:
        values *= scale
    values[invalid] = np.nan
    skew = layout.skews[column] * plan.per_frame
    if skew:
        values = np.concatenate([values[skew:], np.full(skew, np.nan)])
    return values


def _unit(layout: Layout, column: int, source: str) -> float:
    """The unit of a signal in mV, after a look at its gain.

    Raises
    ------
    UserError
        If the unit is unknown, or the gain says that the signal is not calibrated.
    """
    unit, gain, lead = layout.units[column] or DEFAULT_UNIT, layout.gains[column], layout.lead(column)
    scale = millivolts(unit, source, lead)
    if not _GAINS[0] <= abs(gain) / scale <= _GAINS[1]:
        raise UserError(
            f"{source}: lead {lead}: gain {gain:g}/{unit} is not that of a calibrated ECG; "
            "expected counts per unit, such as 1000/mV."
        )
    return scale
