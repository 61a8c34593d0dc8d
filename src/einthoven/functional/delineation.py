"""Boundaries of P, QRS and T from the probability that each sample belongs to a wave.

A model or a mask gives one curve for P, one for QRS and one for T. A wave lasts as long as its curve is above 0.5. The
boundaries lie between the samples, where a straight line through the two samples crosses 0.5. So a mask of zeros and
ones has its boundaries in the middle between two samples, and their error is at most half a sample.

The curves hold for all leads together. So a boundary is the earliest onset or the latest end over the leads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

MASKS = ("P", "QRS", "T")
"""Names of the masks, in the order of the curves."""

MASK_BITS = (1, 2, 4)
"""Bits of P, QRS and T in a mask, in the order of the curves."""

LEVEL = 0.5
"""A sample belongs to a wave if its probability is at least this."""

SHORTEST_GAP = 0.02
"""Seconds. Two parts of a wave with a shorter gap between them are one wave."""

SHORTEST = (0.04, 0.04, 0.06)
"""Shortest P, QRS and T in seconds. Normal waves of adults last about twice as long and longer, so that only parts of
waves and artefacts are left out. The numbers are a choice of this project."""

P_MASS = 0.03
"""Smallest sum of the probability over a P wave, in seconds. A model that is unsure of a P wave stays below it."""

LONGEST_PR = 0.5
"""Seconds from the onset of P to the QRS that it belongs to. A longer PR occurs in severe first-degree block only."""

LONGEST_QT = 0.8
"""Seconds from the onset of QRS to the end of its T. A QTc of 600 ms at 30 beats per minute is a QT of 756 ms
(Fridericia)."""


@dataclass(frozen=True)
class Boundaries:
    """The waves of n records. Each record has one column for each beat, and B is the largest number of beats.

    All values are seconds from the start of the record. They are NaN behind the last beat of a record, and where a
    boundary is unknown. In each beat, P onset < P end ≤ QRS onset < QRS end ≤ T onset < T end.

    Attributes
    ----------
    p_onset, p_end : ndarray, shape (n, B)
        Both are NaN if the beat has no P wave. The onset alone is NaN if P begins before the record.
    qrs_onset, qrs_end : ndarray, shape (n, B)
        Both are finite for each beat. A QRS that is not completely inside of the record is no beat.
    t_onset, t_end : ndarray, shape (n, B)
        Both are NaN if the beat has no T wave. The end alone is NaN if the record or the next QRS hides it.
    """

    p_onset: Float
    p_end: Float
    qrs_onset: Float
    qrs_end: Float
    t_onset: Float
    t_end: Float


@dataclass(frozen=True)
class _Runs:
    """The parts of some curves that are above `LEVEL`, in the order of the records and of time. All arrays are (R,)."""

    record: Int
    onset: Float
    """In samples; NaN if the run begins before the record."""
    end: Float
    """In samples; NaN if the run ends after the record."""
    first: Int
    """First sample of the run."""
    last: Int
    """Last sample of the run."""
    mass: Float
    """Sum of the probability over the run, in samples."""

    def select(self, chosen: Bool) -> _Runs:
        """Return the chosen runs."""
        return _Runs(*(values[chosen] for values in vars(self).values()))


def delineate(probability: NDArray[np.floating], fs: float) -> Boundaries:
    """Find the waves of each beat.

    A beat is a QRS that is completely inside of the record. Its P is the last P wave between the QRS before it and
    itself, at most `LONGEST_PR` seconds earlier. Its T is the T wave with the largest probability mass between its end
    and the next QRS. Other P and T waves belong to no beat and are left out.

    Parameters
    ----------
    probability : ndarray, shape (n, 3, T)
        Probability of P, QRS and T at each sample. A sample that is not finite counts as 0.
    fs : float
        Sampling frequency in Hz.

    Returns
    -------
    Boundaries

    Raises
    ------
    ValueError
        If the shape is not (n, 3, T).
    """
    if probability.ndim != 3 or probability.shape[1] != 3:
        raise ValueError(f"the probabilities have the shape {probability.shape}; expected (n, 3, T)")
    curves = np.nan_to_num(probability.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    records = len(curves)
    p_runs, qrs_runs, t_runs = (_runs(curves[:, wave], fs, SHORTEST[wave]) for wave in range(3))
    p_runs = p_runs.select(p_runs.mass >= P_MASS * fs)
    qrs_runs = qrs_runs.select(np.isfinite(qrs_runs.onset) & np.isfinite(qrs_runs.end))

    # The number of a beat in its record is its column.
    beats_before_record = np.searchsorted(qrs_runs.record, np.arange(records))
    column = np.arange(len(qrs_runs.record)) - beats_before_record[qrs_runs.record]
    num_beats = int(column.max(initial=-1)) + 1
    if not num_beats:
        return Boundaries(*(np.full((records, 0), np.nan) for _ in range(6)))

    def table(rows: Int, columns: Int, values: Float) -> Float:
        filled = np.full((records, num_beats), np.nan)
        filled[rows, columns] = values
        return filled

    # One clock for all records makes it possible to find the neighbouring QRS of each wave in one search.
    record_length = 2.0 * curves.shape[-1]
    qrs_middle = qrs_runs.record * record_length + (qrs_runs.onset + qrs_runs.end) / 2
    p_middle = p_runs.record * record_length + (p_runs.first + p_runs.last) / 2
    t_middle = t_runs.record * record_length + (t_runs.first + t_runs.last) / 2

    # P belongs to the next QRS. In the order of time, the last of several P waves before a QRS overwrites the others.
    next_qrs = np.searchsorted(qrs_middle, p_middle)
    qrs_of_p = np.minimum(next_qrs, len(column) - 1)
    pr = (qrs_runs.onset[qrs_of_p] - p_runs.first) / fs
    has_qrs = (next_qrs < len(column)) & (qrs_runs.record[qrs_of_p] == p_runs.record) & (pr > 0) & (pr <= LONGEST_PR)
    p_runs = p_runs.select(has_qrs)
    p_column = column[qrs_of_p[has_qrs]]

    # T belongs to the QRS before it. In the order of mass, the largest of several T waves overwrites the others.
    previous_qrs = np.searchsorted(qrs_middle, t_middle) - 1
    qrs_of_t = np.maximum(previous_qrs, 0)
    qt = (t_runs.last - qrs_runs.onset[qrs_of_t]) / fs
    has_qrs = (previous_qrs >= 0) & (qrs_runs.record[qrs_of_t] == t_runs.record) & (qt <= LONGEST_QT)
    has_qrs &= t_runs.last > qrs_runs.end[qrs_of_t]
    by_mass = np.argsort(np.where(has_qrs, t_runs.mass, -1.0), kind="stable")[np.count_nonzero(~has_qrs) :]
    t_record = t_runs.record[by_mass]
    t_column = column[qrs_of_t[by_mass]]

    boundaries = Boundaries(
        p_onset=table(p_runs.record, p_column, p_runs.onset),
        p_end=table(p_runs.record, p_column, p_runs.end),
        qrs_onset=table(qrs_runs.record, column, qrs_runs.onset),
        qrs_end=table(qrs_runs.record, column, qrs_runs.end),
        t_onset=table(t_record, t_column, t_runs.onset[by_mass]),
        t_end=table(t_record, t_column, t_runs.end[by_mass]),
    )
    return _in_order(boundaries, fs)


def _runs(curve: Float, fs: float, shortest: float) -> _Runs:
    """Find the runs of curves (n, T) that last at least `shortest` seconds."""
    samples = curve.shape[1]
    is_inside = np.pad(curve >= LEVEL, ((0, 0), (1, 1)))
    record, first = np.nonzero(is_inside[:, 1:] & ~is_inside[:, :-1])
    _, stop = np.nonzero(is_inside[:, :-1] & ~is_inside[:, 1:])

    # A run continues the run before it if the gap between them is short.
    gap = (first[1:] - stop[:-1]) / fs
    continues = (record[1:] == record[:-1]) & (gap < SHORTEST_GAP)
    is_start = np.concatenate([[True], ~continues])[: len(first)]
    is_stop = np.concatenate([~continues, [True]])[: len(first)]
    record = record[is_start]
    first = first[is_start]
    last = stop[is_stop] - 1

    # The crossing lies between the sample outside and the sample inside. At an end of the record there is none.
    before = np.maximum(first - 1, 0)
    after = np.minimum(last + 1, samples - 1)
    onset = first - _fraction(curve[record, first], curve[record, before])
    end = last + _fraction(curve[record, last], curve[record, after])
    onset = np.where(first > 0, onset, np.nan)
    end = np.where(last < samples - 1, end, np.nan)

    cumulative = np.pad(curve.cumsum(axis=1), ((0, 0), (1, 0)))
    mass = cumulative[record, last + 1] - cumulative[record, first]
    runs = _Runs(record, onset, end, first, last, mass)
    return runs.select((last + 1 - first) / fs >= shortest - 1e-9)


def _fraction(inside: Float, outside: Float) -> Float:
    """Return the distance of the crossing from the sample inside, as a share of the distance of the samples."""
    difference = inside - outside
    is_crossing = difference > 0
    fraction: Float = (inside - LEVEL) / np.where(is_crossing, difference, 1.0)
    return np.asarray(np.where(is_crossing, fraction, 0.0))


def _in_order(samples: Boundaries, fs: float) -> Boundaries:
    """Convert samples to seconds, and move boundaries so that the waves of a beat do not overlap."""
    next_onset = np.pad(samples.qrs_onset[:, 1:], ((0, 0), (0, 1)), constant_values=np.nan)
    previous_end = np.pad(samples.qrs_end[:, :-1], ((0, 0), (1, 0)), constant_values=np.nan)

    # QRS is the surest wave, so P and T give way. `fmin` and `fmax` ignore a boundary that does not exist.
    has_p = np.isfinite(samples.p_onset) | np.isfinite(samples.p_end)
    has_t = np.isfinite(samples.t_onset) | np.isfinite(samples.t_end)
    p_end = np.where(has_p, np.fmin(samples.p_end, samples.qrs_onset), np.nan)
    p_onset = np.where(np.isfinite(samples.p_onset), np.fmax(samples.p_onset, previous_end), np.nan)
    t_onset = np.where(has_t, np.fmax(samples.t_onset, samples.qrs_end), np.nan)

    # A T wave that reaches the next QRS has an unknown end. One sample of distance tells them apart.
    is_hidden = samples.t_end > next_onset - 1.0
    t_end = np.where(is_hidden, np.nan, samples.t_end)

    # What is left of a wave can be empty.
    is_empty_p = p_onset >= p_end
    is_empty_t = t_onset >= t_end
    return Boundaries(
        p_onset=np.where(is_empty_p, np.nan, p_onset) / fs,
        p_end=np.where(is_empty_p, np.nan, p_end) / fs,
        qrs_onset=samples.qrs_onset / fs,
        qrs_end=samples.qrs_end / fs,
        t_onset=np.where(is_empty_t, np.nan, t_onset) / fs,
        t_end=np.where(is_empty_t, np.nan, t_end) / fs,
    )


def mask_to_waves(mask: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Convert masks (n, T) with the bits `MASK_BITS` to (n, 3, T): whether a sample belongs to P, QRS and T."""
    bits = np.array(MASK_BITS)[:, None]
    return np.asarray((mask[:, None] & bits) > 0)


def mask_to_probability(mask: NDArray[np.integer]) -> Float:
    """Convert masks (n, T) with the bits `MASK_BITS` to curves (n, 3, T) of zeros and ones, as `delineate` reads."""
    return mask_to_waves(mask).astype(np.float64)


def wave_of_sample(boundaries: Boundaries, fs: float, samples: int) -> NDArray[np.int8]:
    """Return the wave of each sample ``(n, T)``: 0 for none, 1 for P, 2 for QRS, 3 for ST and 4 for T.

    The numbers are those of `functional.waves.WAVES`. ST lasts from the end of QRS to the onset of T, if the beat has a
    T wave. The part of a wave that the record cuts off is left out.
    """
    time = np.arange(samples) / fs
    result = np.zeros((len(boundaries.qrs_onset), samples), np.int8)
    waves = {
        1: (boundaries.p_onset, boundaries.p_end),
        2: (boundaries.qrs_onset, boundaries.qrs_end),
        3: (boundaries.qrs_end, boundaries.t_onset),
        4: (boundaries.t_onset, boundaries.t_end),
    }
    for number, (start, stop) in waves.items():
        # Both are searched in the sorted times, so that each sample is marked without a loop over beats.
        is_known = np.isfinite(start) & np.isfinite(stop)
        first = np.searchsorted(time, np.where(is_known, start, 0.0))
        last = np.searchsorted(time, np.where(is_known, stop, 0.0))
        steps = np.zeros((len(result), samples + 1), np.int64)
        rows = np.broadcast_to(np.arange(len(result))[:, None], start.shape)
        np.add.at(steps, (rows, first), is_known)
        np.add.at(steps, (rows, last), -is_known.astype(np.int64))
        result[(steps.cumsum(axis=1)[:, :samples] > 0) & (result == 0)] = number
    return result
