"""The end of the QRS of representative beats: the last point at which a lead is not at its ST segment.

The ST segment is a line or a curve that is fitted to the samples after the QRS. Beats, limits and times are as in
`functional.qrs_edges`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.crossings import holds, last_crossing, mean_and_deviation, median_inside, positive

Float = NDArray[np.float64]

END_NOISE = 4.0
"""A deviation at the end is at least so many times the standard deviation from the line of ST. The line is fitted to
the ST segment, so these deviations are smaller than those of a level."""

ST_LINE = (0.008, 0.06)
"""The line of ST is fitted between these two times, in seconds after the end of QRS."""

ST_CURVE = (0.008, 0.05)
"""The curve of ST is fitted between these two times, in seconds after each sample."""

CURVE_NOISE = 5.0
"""A deviation from the curve of ST is at least so many times the usual deviation in the ST segment."""

CURVE_LASTS = 0.01
"""A lead deviates from the curve of ST for so many seconds, because muscle noise often deviates for a shorter time."""

CURVE_LEVEL = (0.01, 0.06)
"""The usual deviation is measured between these two times, in seconds after the end of QRS."""

NORMAL_MEDIAN = 0.6745
"""Median magnitude of a normal distribution with a mean of 0 and a standard deviation of 1."""


def end_at_curve(beat: Float, fs: float, end: Float, visible: Float) -> Float:
    """Find the last sample (n,) at which a lead is not at the curve of its ST segment, in seconds.

    The curve is a parabola through the samples that follow (least squares). All samples have the same distances, so its
    value is a weighted sum, as in Savitzky & Golay, Anal. Chem. 36:1627, 1964. `end` and `visible` are as in
    `end_at_line`.
    """
    from scipy.ndimage import correlate1d

    from_curve = np.abs(correlate1d(beat, _curve_weights(fs), axis=-1, mode="nearest"))

    # The median leaves out a small last wave of the QRS.
    since_end = np.arange(beat.shape[-1]) / fs - end[:, None]
    is_st = (since_end >= CURVE_LEVEL[0]) & (since_end <= CURVE_LEVEL[1])
    usual = median_inside(from_curve, is_st) / NORMAL_MEDIAN
    limit = np.maximum(visible[:, None], CURVE_NOISE * usual)
    deviation = (from_curve / positive(limit)[..., None]).max(axis=1)
    is_away = holds(deviation > 1.0, -1, max(round(CURVE_LASTS * fs), 1))
    return last_crossing(deviation, is_away & (since_end <= sum(ST_LINE) / 2), fs, end)


# For a single record, the fit takes longer than its use, so the weights are cached.
@lru_cache(maxsize=64)
def _curve_weights(fs: float) -> Float:
    """Return the weights of samples around one sample, for the difference between it and the curve behind it."""
    after = np.arange(round(ST_CURVE[0] * fs), round(ST_CURVE[1] * fs) + 1)
    powers = (after / after[-1])[:, None] ** np.arange(3)
    weights = np.zeros(2 * after[-1] + 1)
    weights[after[-1]] = 1.0
    weights[after[-1] + after] = -np.linalg.pinv(powers)[0]
    return weights


def end_at_line(beat: Float, fs: float, end: Float, visible: Float) -> Float:
    """Find where the QRS is no longer visible (n,), in seconds. `end` (n,) is an estimate of it, `visible` (n,) in mV.

    A straight line is fitted to the ST segment of each lead (least squares). The QRS ends at the last sample before the
    middle of this segment that is not at the line.
    """
    time = np.arange(beat.shape[-1]) / fs
    since_end = time - end[:, None]
    is_st = (since_end >= ST_LINE[0]) & (since_end <= ST_LINE[1])
    middle = end + (ST_LINE[0] + ST_LINE[1]) / 2
    from_middle = time - middle[:, None]
    mean, _ = mean_and_deviation(beat, is_st)
    # The times of a window near the end of the beat are not symmetric about the middle.
    from_mean = from_middle - (from_middle * is_st).sum(axis=1, keepdims=True) / np.maximum(is_st.sum(1), 1)[:, None]
    weight = np.where(is_st, from_mean, 0.0)
    slope = np.einsum("nlw,nw->nl", beat, weight) / positive(np.square(weight).sum(axis=1))[:, None]
    line = mean[..., None] + slope[..., None] * from_mean[:, None]
    _, noise = mean_and_deviation(beat - line, is_st)
    limit = np.maximum(visible[:, None], END_NOISE * noise)
    deviation = (np.abs(beat - line) / positive(limit)[..., None]).max(axis=1)

    return last_crossing(deviation, (deviation > 1.0) & (from_middle <= 0), fs, end)
