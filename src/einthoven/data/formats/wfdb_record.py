"""Read a WFDB record of one or several segments: the wanted leads in mV or as int16 µV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import lead_map
from einthoven.data.formats.record import Record
from einthoven.data.formats.wfdb_header import Header, read_header
from einthoven.data.formats.wfdb_layout import Layout
from einthoven.data.formats.wfdb_plan import Plan, make_plan, unit_in_millivolts
from einthoven.data.formats.wfdb_signal import INVALID, Checksum, Counts, read_counts
from einthoven.errors import UserError
from einthoven.functional.conform import round_to_int16


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
    plan = make_plan(header, want)
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

    plan = make_plan(header, want)
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

    Return the signal and its number of invalid samples, or None if the record needs a conversion.
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
            is_microvolt = layout.gains[column] == 1000 * unit_in_millivolts(layout, column, "")
            if not is_microvolt or layout.baselines[column] != 0:
                return None
    except UserError:
        return None
    all_columns = range(len(layout.names))
    return all_columns if order == tuple(all_columns) else order


def _read_parts(
    plan: Plan, checksum: Checksum, per_millivolt: float, faults: list[str]
) -> Iterator[tuple[int, slice, NDArray[np.float64]]]:
    """Yield the row of each wanted lead, the place of a segment in the record, and its amplitudes, segment by segment.

    The amplitudes are float64, `per_millivolt` times their value in mV. Notes about accepted faults are appended to
    `faults`.
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
    plan: Plan,
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
    scale = unit_in_millivolts(layout, column, header.name) * per_millivolt
    if scale != 1.0:
        values *= scale
    values[is_invalid] = np.nan

    # A signal with a skew is late in the file.
    skew = layout.skews[column] * plan.per_frame
    if skew:
        values = np.concatenate([values[skew:], np.full(skew, np.nan)])
    return values
