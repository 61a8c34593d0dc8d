"""Plan what to read from a WFDB record: which signals of which segments give the wanted leads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from einthoven.data.formats.channels import LeadMap, lead_map, millivolts
from einthoven.data.formats.file_signals import check_sample_count
from einthoven.data.formats.wfdb_header import DEFAULT_UNIT, Header, read_segment_header
from einthoven.data.formats.wfdb_layout import Layout
from einthoven.data.formats.wfdb_signal import frame_count
from einthoven.errors import UserError
from einthoven.functional.leads import canonical_lead

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
class Part:
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
class Plan:
    """What to read from a record. Making a plan reads only headers and file sizes.

    Attributes
    ----------
    parts : list of Part
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

    parts: list[Part]
    leads: LeadMap
    fs: float
    per_frame: int
    samples: int
    notes: tuple[str, ...]


def make_plan(header: Header, want: tuple[str, ...]) -> Plan:
    """Find out what to read for the wanted leads, and check it. Only headers and file sizes are read.

    Raises
    ------
    UserError
        If a lead is missing or named twice, if headers and files contradict each other, if a unit or a gain is not
        that of an ECG, if leads of several rates have no common one, or if the record has too many samples.
    """
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
            parts.append(Part(segment, start, frames, columns))
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
    check_sample_count(total * per_frame * len(want), header.name)
    if any(not layout.units[column] for layout, column in signals):
        notes.append(f"leads without a unit: {DEFAULT_UNIT}, the default of the format")
    if segments_without_lead:
        notes.append(f"NaN in {segments_without_lead} of {len(segments)} segments, which lack some or all of the leads")
    return Plan(parts, leads, header.fs * per_frame, per_frame, total * per_frame, tuple(notes))


def _check_signals(header: Header, columns: Iterable[int], frames: int) -> None:
    """Refuse a signal with an unknown unit, an implausible gain, or a skew that is longer than the record."""
    for column in columns:
        unit_in_millivolts(header.layout, column, header.name)
        if header.layout.skews[column] >= frames:
            raise UserError(
                f"{header.name}: lead {header.layout.lead(column)}: skew of {header.layout.skews[column]} samples "
                f"found, expected less than the {frames} of the record."
            )


def _read_segments(header: Header) -> tuple[list[tuple[int | None, Header | None]], tuple[str, ...]]:
    """Read the headers of the segments: their lengths and headers (None for a gap), and the names of the signals.

    In a fixed layout, all segments have the signals of the first one. In a variable layout, the first segment has
    length 0 and states the names; each of the others contains some of these signals.
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

    Segments with the same names are matched by position, because a name may occur twice. Others are matched by name, or
    by the lead that the name means, such as AVR for aVR.
    """
    if segment_names == names:
        return {column: column for column in used}
    segment_leads = [canonical_lead(name) for name in segment_names]
    columns = {}
    for column in used:
        lead = canonical_lead(names[column])
        if names[column] in segment_names:
            columns[column] = segment_names.index(names[column])
        elif lead is not None and segment_leads.count(lead) == 1:
            columns[column] = segment_leads.index(lead)
    return columns


def unit_in_millivolts(layout: Layout, column: int, source: str) -> float:
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
