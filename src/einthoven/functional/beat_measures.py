"""Intervals, areas and ST levels of each beat, from the boundaries of the waves.

Areas and ST levels are measured against the PQ level of the same beat. So slow wander of the baseline changes them
little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.delineation import Boundaries
from einthoven.functional.summaries import summarize

Float = NDArray[np.float64]

PQ = (0.03, 0.01)
"""The PQ level is the mean between these two times, in seconds before the onset of QRS. The last 10 ms are left out: at
100 Hz they already contain the first slope of QRS."""

ST_POINT = 0.06
"""Seconds after the end of QRS (the J point) at which the ST level is read."""

ST_REACH = 0.01
"""The ST level is the mean over so many seconds before and after its point."""

T_POINTS = 21
"""Number of points, from the onset to the end of T, at which the height of the wave is looked for."""

T_REACH = 0.01
"""The level at a point of T is the mean over so many seconds before and after it."""


@dataclass(frozen=True)
class BeatMeasures:
    """Measures of B beats in n records with L leads. NaN where a beat lacks what a measure needs.

    Attributes
    ----------
    rr : ndarray, shape (n, B - 1)
        Seconds between the middles of successive QRS complexes.
    pr, qrs, qt : ndarray, shape (n, B)
        Global intervals in seconds.
    p_area, qrs_area, t_area : ndarray, shape (n, L, B)
        Net area of each wave in mV s.
    st : ndarray, shape (n, L, B)
        ST level in mV, 60 ms after the J point.
    t_height : ndarray, shape (n, L)
        Height of the T wave of each lead in mV, as in `t_heights`.
    """

    rr: Float
    pr: Float
    qrs: Float
    qt: Float
    p_area: Float
    qrs_area: Float
    t_area: Float
    st: Float
    t_height: Float


def measure_beats(x: NDArray[np.floating], fs: float, boundaries: Boundaries) -> BeatMeasures:
    """Measure each beat.

    The middle of a QRS is known better than its onset, because the errors of onset and end partly cancel.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        Signals in mV. A value that rests on a sample that is not finite is NaN.
    fs : float
        Sampling frequency in Hz. It may differ from that of the boundaries, which are in seconds.
    boundaries : Boundaries
        Of the same n records.

    References
    ----------
    Kligfield et al., "Recommendations for the standardization and interpretation of the electrocardiogram: part I",
    Circulation 115:1306, 2007: global intervals from the earliest onset to the latest end over the leads. Rautaharju et
    al., part IV, Circulation 119:e241, 2009: J point and ST level.
    """
    waves = boundaries
    integral = _Integral(x, fs)
    pq_level = integral.mean(waves.qrs_onset - PQ[0], waves.qrs_onset - PQ[1])
    st_time = waves.qrs_end + ST_POINT

    def area(onset: Float, end: Float) -> Float:
        return integral.between(onset, end) - pq_level * (end - onset)[:, None]

    return BeatMeasures(
        rr=np.diff((waves.qrs_onset + waves.qrs_end) / 2, axis=1),
        pr=waves.qrs_onset - waves.p_onset,
        qrs=waves.qrs_end - waves.qrs_onset,
        qt=waves.t_end - waves.qrs_onset,
        p_area=area(waves.p_onset, waves.p_end),
        qrs_area=area(waves.qrs_onset, waves.qrs_end),
        t_area=area(waves.t_onset, waves.t_end),
        st=integral.mean(st_time - ST_REACH, st_time + ST_REACH) - pq_level,
        t_height=_t_heights(integral, boundaries),
    )


def t_heights(x: NDArray[np.floating], fs: float, boundaries: Boundaries) -> Float:
    """Return the height of the T wave in each lead ``(n, L)`` in mV; NaN without a complete T wave.

    It is the largest deflection, up or down, of the median T wave of the beats. The T wave of a beat is measured
    against the level at its end, because QT ends where the signal returns to that level. The median over the beats
    contains less noise than a single beat.

    Parameters
    ----------
    x, fs, boundaries
        As in `measure_beats`.
    """
    return _t_heights(_Integral(x, fs), boundaries)


def _t_heights(integral: _Integral, boundaries: Boundaries) -> Float:
    # All points of all beats are read at once: (n, T_POINTS * B).
    records, num_beats = boundaries.t_onset.shape
    share = np.linspace(0.0, 1.0, T_POINTS)[:, None]
    duration = boundaries.t_end - boundaries.t_onset
    time = (boundaries.t_onset[:, None] + share * duration[:, None]).reshape(records, T_POINTS * num_beats)
    levels = integral.mean(time - T_REACH, time + T_REACH)
    levels = levels.reshape(*levels.shape[:2], T_POINTS, num_beats)
    deflection = levels - levels[:, :, -1:]
    median_wave = summarize(deflection).median
    return np.asarray(np.abs(median_wave).max(axis=-1))


class _Integral:
    """The exact integral of the straight lines between the samples of signals (n, L, T)."""

    def __init__(self, x: NDArray[np.floating], fs: float) -> None:
        self._x = np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        self._fs = fs
        trapezoids = (self._x[..., 1:] + self._x[..., :-1]) / 2
        self._until_sample = np.pad(trapezoids.cumsum(axis=-1), ((0, 0), (0, 0), (1, 0)))
        is_unknown = ~np.isfinite(x)
        self._unknown_before: NDArray[np.int64] | None = None
        if is_unknown.any():
            self._unknown_before = np.pad(is_unknown.cumsum(axis=-1), ((0, 0), (0, 0), (1, 0)))

    def between(self, start: Float, stop: Float) -> Float:
        """Integrate from `start` to `stop` seconds (n, B).

        NaN if one of them is unknown or outside of the record, or if a sample that is not finite is between them.
        """
        integral: Float = (self._until(stop) - self._until(start)) / self._fs
        if self._unknown_before is None:
            return integral
        return np.where(_has_unknown(self._unknown_before, start * self._fs, stop * self._fs), np.nan, integral)

    def mean(self, start: Float, stop: Float) -> Float:
        """Return the mean (n, L, B) from `start` to `stop` seconds."""
        return self.between(start, stop) / (stop - start)[:, None]

    def _until(self, time: Float) -> Float:
        """Integrate from the first sample to times (n, B), in samples."""
        last = self._x.shape[-1] - 1
        position = time * self._fs
        is_inside = (position >= 0) & (position <= last)
        position = np.where(is_inside, position, 0.0)
        sample = np.minimum(position.astype(np.int64), max(last - 1, 0))
        fraction = (position - sample)[:, None]
        value = np.take_along_axis(self._x, sample[:, None], axis=-1)
        next_value = np.take_along_axis(self._x, np.minimum(sample + 1, last)[:, None], axis=-1)
        whole = np.take_along_axis(self._until_sample, sample[:, None], axis=-1)
        result = whole + fraction * value + fraction**2 / 2 * (next_value - value)
        return np.where(is_inside[:, None], result, np.nan)


def _has_unknown(unknown_before: NDArray[np.int64], start: Float, stop: Float) -> NDArray[np.bool_]:
    """Return whether a sample from `start` to `stop` (n, B), or next to them, is not finite (n, L, B).

    `unknown_before` is the number of such samples before each sample, and before the end (n, L, T + 1).
    """
    samples = unknown_before.shape[-1] - 1
    first = np.clip(np.floor(np.nan_to_num(start)), 0, samples).astype(np.int64)
    after = np.clip(np.ceil(np.nan_to_num(stop)) + 1, 0, samples).astype(np.int64)
    before_first = np.take_along_axis(unknown_before, first[:, None], axis=-1)
    before_after = np.take_along_axis(unknown_before, after[:, None], axis=-1)
    return np.asarray(before_after > before_first)
