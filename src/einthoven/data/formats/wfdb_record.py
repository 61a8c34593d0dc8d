"""Read a WFDB record of one or several segments: the wanted leads in mV or as int16 µV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import LeadMap, lead_map, millivolts
from einthoven.data.formats.file_signals import check_sample_count
from einthoven.data.formats.record import Record
from einthoven.data.formats.wfdb_header import DEFAULT_UNIT, Header, Layout, read_header, read_segment_header
from einthoven.data.formats.wfdb_signal import INVALID, Checksum, Counts, frame_count, read_counts
from einthoven.errors import UserError
from einthoven.functional.conform import round_to_int16

# Plausible gains of an ECG in counts per mV. Real gains are far from both limits.
_MIN_GAIN = 1e-3
_MAX_GAIN = 1e9

# Name of a segment in which nothing was recorded.
_GAP = "~"

# Leads of several rates are averaged over a frame. Below this rate in Hz, little is left of a QRS complex.
_LOWEST_FRAME_RATE = 50.0

# Largest ratio of the length of a record to the samples in its files. The rest of the record is gaps.
_MAX_GAP_RATIO = 1000


@dataclass(frozen=True)
class _Part:
    """One segment of a record.

    Attributes
    ----------
    header : Header
        Header of the segment.
    start, frames : int
        First frame in the record, and number of frames.
    columns : dict
        Column in the record -> column in the segment, for the signals that are used.
    """

    header: Header
    start: int
    frames: int
    columns: dict[int, int]


@dataclass(frozen=True)
class _Plan:
    """What to read from a record. Making a plan reads only headers and file sizes.

    Attributes
    ----------
    parts : list of _Part
        Segments that contain a signal that is used.
    leads : LeadMap
        From the signals of the record to the wanted leads.
    fs : float
        Sampling frequency of the result in Hz.
    per_frame : int
        Samples per frame in the result.
    samples : int
        Samples per lead in the result.
    notes : tuple of str
    """

    parts: list[_Part]
    leads: LeadMap
    fs: float
    per_frame: int
    samples: int
    notes: tuple[str, ...]


def read_wfdb(path: str | Path, want: tuple[str, ...], checksum: Checksum) -> Record:
    """Read the wanted leads of a record in mV. Samples that are invalid or not recorded are NaN.

    If all used signals have the same number of samples per frame, they keep their sampling frequency. Otherwise each
    frame becomes one sample: the mean of the frame, rounded towards zero to a count. The WFDB library does the same.

    Raises
    ------
    UserError
        If a file is missing, truncated or damaged, a lead is missing or named twice, or a unit is unknown.
    """
    header = read_header(path)
    plan = _make_plan(header, want)
    signal = np.full((len(want), plan.samples), np.nan, dtype=np.float32)
    faults: list[str] = []
    for lead, samples, amplitudes in _read_parts(plan, checksum, 1.0, faults):
        signal[lead, samples] = amplitudes
    notes = (*header.notes, *plan.leads.notes, *plan.notes, *faults)
    return Record(signal, plan.fs, want, Path(header.name).stem, notes, header.comments)


def read_wfdb_microvolts(
    path: str | Path, want: tuple[str, ...], checksum: Checksum
) -> tuple[NDArray[np.int16], float, int, int]:
    """Read the wanted leads of a record as int16 µV: the float64 amplitude, rounded half to even.

    Returns
    -------
    signal : ndarray of int16, shape (len(want), T)
        Invalid samples are 0.
    fs : float
        Sampling frequency in Hz.
    invalid, clipped : int
        Number of invalid samples and of clipped samples.

    Raises
    ------
    UserError
        As `read_wfdb`.
    """
    header = read_header(path)
    if not header.segments:
        signal_and_invalid = _read_counts_as_microvolts(header, want, checksum)
        if signal_and_invalid is not None:
            signal, invalid = signal_and_invalid
            return signal, header.fs, invalid, 0

    plan = _make_plan(header, want)
    signal = np.zeros((len(want), plan.samples), dtype=np.int16)
    valid = 0
    clipped = 0
    for lead, samples, amplitudes in _read_parts(plan, checksum, 1000.0, []):
        signal[lead, samples], is_invalid, is_clipped = round_to_int16(amplitudes)
        valid += len(amplitudes) - int(np.count_nonzero(is_invalid))
        clipped += int(np.count_nonzero(is_clipped))
    # Samples that are not recorded count as invalid, too.
    return signal, plan.fs, signal.size - valid, clipped


def _read_counts_as_microvolts(
    header: Header, want: tuple[str, ...], checksum: Checksum
) -> tuple[NDArray[np.int16], int] | None:
    """Read a record whose counts are µV already, as in PTB-XL, without any conversion to float.

    Returns
    -------
    (signal, number of invalid samples) or None
        None if the record needs a conversion.
    """
    order = _microvolt_columns(header.layout, want)
    if order is None:
        return None
    counts, _ = read_counts(header, order, checksum=checksum)
    if not isinstance(counts, np.ndarray) or counts.dtype.itemsize > 2:
        return None
    if order != range(len(counts)):
        counts = counts[list(order)]
    signal = counts.astype(np.int16, copy=False)

    # Most records have no invalid sample. For them, the minimum is the only additional pass over the data.
    lowest = INVALID[header.layout.formats[0]]
    if signal.min() > lowest:
        return signal, 0
    is_invalid = signal == lowest
    signal[is_invalid] = 0
    return signal, int(np.count_nonzero(is_invalid))


@lru_cache(maxsize=64)
def _microvolt_columns(layout: Layout, want: tuple[str, ...]) -> Sequence[int] | None:
    """Return the column of each wanted lead if a count is 1 µV in all of them. Return None otherwise."""
    # The caller then reads the record in the general way, which reports the error with the name of the file.
    try:
        order = lead_map(layout.names, want, "").order
        if not layout.is_plain or order is None:
            return None
        for column in order:
            is_microvolt = layout.gains[column] == 1000 * _unit_in_millivolts(layout, column, "")
            if not is_microvolt or layout.baselines[column] != 0:
                return None
    except UserError:
        return None
    all_columns = range(len(layout.names))
    return all_columns if order == tuple(all_columns) else order


def _make_plan(header: Header, want: tuple[str, ...]) -> _Plan:
    if header.segments:
        segments, names = _read_segments(header)
    else:
        segments = [(header.samples, header)]
        names = header.layout.names
    leads = lead_map(names, want, header.name)
    used = np.flatnonzero(leads.matrix.any(axis=0)).tolist()

    # Place the segments one after the other, and compare their stated lengths with their files.
    parts = []
    start = 0
    segments_without_lead = 0
    frames_in_files: dict[str, int] = {}
    for stated_length, segment in segments:
        columns = {} if segment is None else _match_columns(segment.layout.names, names, used)
        if len(columns) < len(used):
            segments_without_lead += 1
        length = stated_length
        if segment is not None and columns:
            if segment.name not in frames_in_files:
                frames_in_files[segment.name] = frame_count(segment, columns.values())
                _check_signals(segment, columns.values(), frames_in_files[segment.name])
            frames = frames_in_files[segment.name]
            if stated_length is None:
                length = frames
            elif stated_length != frames:
                raise UserError(f"{segment.name}: {frames} samples per lead found, {header.name} says {stated_length}.")
            parts.append(_Part(segment, start, frames, columns))
        start += length or 0

    # The caller allocates memory for the whole record, so that a header must not state an enormous gap.
    total = start
    recorded = sum(frames_in_files.values())
    if total == 0:
        raise UserError(f"{header.name}: no samples of {' '.join(want)} found; expected a segment that holds some.")
    if total > _MAX_GAP_RATIO * recorded:
        raise UserError(
            f"{header.name}: {total} samples per lead found, of which the files hold {recorded}; expected "
            f"at least one in {_MAX_GAP_RATIO}."
        )

    check_sample_count(total * len(want), header.name)

    # Signals with different numbers of samples per frame are averaged over the frame.
    notes = []
    signals = [(part.header.layout, column) for part in parts for column in part.columns.values()]
    rates = {layout.per_frame[column] for layout, column in signals}
    per_frame = 1
    if len(rates) == 1:
        per_frame = rates.pop()
    elif rates:
        if header.fs < _LOWEST_FRAME_RATE:
            listed = " and ".join(f"{header.fs * rate:g}" for rate in sorted(rates))
            raise UserError(
                f"{header.name}: leads at {listed} Hz, which have only frames at {header.fs:g} Hz in common; expected "
                f"leads at one rate, or frames at {_LOWEST_FRAME_RATE:g} Hz or more, over which they are averaged."
            )
        notes.append(f"leads of several rates: averaged over each frame, to {header.fs:g} Hz")
    if any(not layout.units[column] for layout, column in signals):
        notes.append(f"leads without a unit: {DEFAULT_UNIT}, the default of the format")
    if segments_without_lead:
        notes.append(f"NaN in {segments_without_lead} of {len(segments)} segments, which lack some or all of the leads")
    return _Plan(parts, leads, header.fs * per_frame, per_frame, total * per_frame, tuple(notes))


def _check_signals(header: Header, columns: Iterable[int], frames: int) -> None:
    """Refuse a signal with an unknown unit, an implausible gain, or a skew that is longer than the record."""
    for column in columns:
        _unit_in_millivolts(header.layout, column, header.name)
        if header.layout.skews[column] >= frames:
            raise UserError(
                f"{header.name}: lead {header.layout.lead(column)}: skew of {header.layout.skews[column]} samples "
                f"found, expected less than the {frames} of the record."
            )


def _read_segments(header: Header) -> tuple[list[tuple[int | None, Header | None]], tuple[str, ...]]:
    """Read the headers of the segments.

    In a fixed layout, all segments have the signals of the first one. In a variable layout, the first segment has
    length 0 and states the names; each of the others contains some of these signals.

    Returns
    -------
    segments : list of (length, header)
        The header is None for a gap.
    names : tuple of str
        Names of the signals of the record.
    """
    # A segment can occur several times in a record. Its header is read once.
    headers: dict[str, Header] = {}
    segments: list[tuple[int | None, Header | None]] = []
    for name, length in header.segments:
        if name == _GAP:
            segments.append((length, None))
            continue
        if name not in headers:
            headers[name] = read_segment_header(header, name)
        segment = headers[name]
        if segment.fs != header.fs or segment.samples not in (None, length):
            raise UserError(
                f"{segment.name}: {segment.samples} samples at {segment.fs:g} Hz found, {header.name} says {length} at "
                f"{header.fs:g} Hz."
            )
        segments.append((length, segment if segment.count else None))
    total = sum(length or 0 for length, _ in segments)
    if header.samples not in (None, total):
        raise UserError(f"{header.name}: segments of {total} samples found, its record line says {header.samples}.")

    # A variable layout.
    if header.segments[0][1] == 0:
        layout_segment = segments[0][1]
        if layout_segment is None:
            raise UserError(f"{header.name}: no layout found; expected a first segment that names the signals.")
        return segments[1:], layout_segment.layout.names

    # A fixed layout.
    for _, first_segment in segments:
        if first_segment is not None:
            return segments, first_segment.layout.names
    raise UserError(f"{header.name}: nothing but gaps found; expected a segment with signals.")


def _match_columns(segment_names: tuple[str, ...], names: tuple[str, ...], used: Sequence[int]) -> dict[int, int]:
    """Return the column in a segment for each used column of the record, if the segment contains the signal.

    Segments with the same names are matched by position, because a name may occur twice. Others are matched by name.
    """
    if segment_names == names:
        return {column: column for column in used}
    return {column: segment_names.index(names[column]) for column in used if names[column] in segment_names}


def _read_parts(
    plan: _Plan, checksum: Checksum, per_millivolt: float, faults: list[str]
) -> Iterator[tuple[int, slice, NDArray[np.float64]]]:
    """Read the wanted leads, segment by segment.

    Parameters
    ----------
    plan : _Plan
    checksum : "verify" or "warn"
    per_millivolt : float
        Unit of the result: 1 for mV, 1000 for µV.
    faults : list of str
        Notes about accepted faults are appended to this list.

    Yields
    ------
    lead : int
        Row of the wanted lead.
    samples : slice
        Position of the segment in the record.
    amplitudes : ndarray of float64
    """
    for part in plan.parts:
        counts, new_faults = read_counts(part.header, part.columns.values(), checksum=checksum)
        faults.extend(new_faults)
        samples = slice(part.start * plan.per_frame, (part.start + part.frames) * plan.per_frame)
        for lead, weights in enumerate(plan.leads.matrix):
            used = np.flatnonzero(weights).tolist()
            if not all(column in part.columns for column in used):
                continue
            terms = []
            for column in used:
                amplitudes = _amplitudes(part.header, counts, part.columns[column], plan, per_millivolt)
                terms.append(weights[column] * amplitudes)
            yield lead, samples, sum(terms[1:], start=terms[0])


def _amplitudes(
    header: Header,
    counts: Counts | Sequence[Counts | None],
    column: int,
    plan: _Plan,
    per_millivolt: float,
) -> NDArray[np.float64]:
    """Convert the counts of a signal to amplitudes in mV or µV.

    Invalid samples are NaN, and so are the last samples of a signal with a skew.
    """
    layout = header.layout
    row = counts[column]
    assert row is not None
    is_invalid = row == INVALID.get(layout.formats[column], np.nan)

    # Average over the frame if the signals differ in samples per frame.
    if layout.per_frame[column] != plan.per_frame:
        frames = row.reshape(-1, layout.per_frame[column])
        row = np.trunc(frames.sum(axis=1, dtype=np.int64) / layout.per_frame[column])
        is_invalid = is_invalid.reshape(-1, layout.per_frame[column]).any(axis=1)

    # PTB-XL needs no scaling. Skipping the multiplication saves time.
    values = (row.astype(np.float64) - layout.baselines[column]) / layout.gains[column]
    scale = _unit_in_millivolts(layout, column, header.name) * per_millivolt
    if scale != 1.0:
        values *= scale
    values[is_invalid] = np.nan

    # A signal with a skew is late in the file.
    skew = layout.skews[column] * plan.per_frame
    if skew:
        values = np.concatenate([values[skew:], np.full(skew, np.nan)])
    return values


def _unit_in_millivolts(layout: Layout, column: int, source: str) -> float:
    """Return the unit of a signal in mV, and check the gain.

    Raises
    ------
    UserError
        If the unit is unknown, or if the gain shows that the signal is not calibrated.
    """
    unit = layout.units[column] or DEFAULT_UNIT
    gain = layout.gains[column]
    lead = layout.lead(column)
    scale = millivolts(unit, source, lead)
    if not _MIN_GAIN <= abs(gain) / scale <= _MAX_GAIN:
        raise UserError(
            f"{source}: lead {lead}: gain {gain:g}/{unit} is not that of a calibrated ECG; "
            "expected counts per unit, such as 1000/mV."
        )
    return scale
