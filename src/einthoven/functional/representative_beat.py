"""The representative beat: the median of the beats of one shape, which are aligned by their QRS.

Beats of other shapes, such as premature ventricular beats, are left out. The others are shifted, by parts of a sample,
to where they fit the median best (`functional.alignment`). Without this, the peaks of the median are too low.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.alignment import align_beats, cut_beats, median_of_beats
from einthoven.functional.baseline import subtract_baseline
from einthoven.functional.beats import AFTER, MIN_AMPLITUDE, band_pass, fiducial
from einthoven.functional.qrs_edges import PQ, qrs_edges

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

COMPLETE_BEFORE = 0.30
"""Seconds before the QRS that a complete beat has. Only a long PR interval needs more. If the record begins later, its
first sample stands for what is missing."""

COMPARED_REACH = 0.15
"""Seconds before and after the QRS in which the halves of the beats are compared. A short part contains little baseline
wander."""

WANDER_CUTOFF = 0.5
"""Cutoff in Hz of the high-pass filter of the beats whose halves are compared."""

USUAL_ONSET = 0.045
"""Seconds from the onset to the centre of the QRS, for a record in which the onset cannot be measured."""

LEVEL_REACH = (0.16, 0.04)
"""The mean between these two times, in seconds before the centre of the QRS, is the first estimate of the level."""

EDGE_REACH = (0.20, 0.22)
"""Seconds before and after the centre of the QRS that are needed to find its onset."""


def representative_beat(x: NDArray[np.floating], beats: Int, fs: float) -> Float:
    """Compute the median beat of each lead. Noise and ectopic beats change it little.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        Signals in mV. The baseline is subtracted: a curve through the levels between P and QRS of the beats.
    beats : ndarray, shape (n, B)
        Samples of the QRS complexes, as from `detect_beats`.

    Returns
    -------
    ndarray, shape (n, L, W)
        The beat in mV, from `BEFORE` seconds before the QRS to `AFTER` seconds after it. The QRS is at sample
        ``fiducial(fs)``. The beat is NaN if the record contains no complete beat.
    """
    from scipy.ndimage import spline_filter1d

    signal = np.nan_to_num(x).astype(np.float64)
    num_before = fiducial(fs)
    length = num_before + round(AFTER * fs)
    is_complete = _is_complete(beats, fs, signal.shape[-1])
    if not is_complete.any():
        return np.full((*signal.shape[:2], length), np.nan)
    by_time = np.ascontiguousarray(signal.transpose(0, 2, 1))
    position, is_usual = align_beats(by_time, beats, is_complete, fs)

    levels_at = _levels_at(by_time, position, is_usual, fs)
    signal = subtract_baseline(signal, levels_at, max(round((PQ[0] - PQ[1]) * fs), 1))

    # Beats at positions between samples are interpolated by a cubic spline (Unser, IEEE Signal Process. Mag. 16(6):22,
    # 1999). Its value is a weighted sum of four coefficients.
    coefficients = np.ascontiguousarray(spline_filter1d(signal, order=3, axis=-1).transpose(0, 2, 1))
    before = np.floor(position).astype(np.int64)
    cut = cut_beats(coefficients, before - num_before - 1, length + 3)
    aligned = np.zeros((*beats.shape, length, signal.shape[1]))
    for start, weight in enumerate(_spline_weights(position - before)):
        aligned += weight[:, :, None, None] * cut[:, :, start : start + length]
    return median_of_beats(aligned, is_usual).transpose(0, 2, 1)


def beat_and_repeatability(x: NDArray[np.floating], beats: Int, fs: float) -> tuple[Float, Float]:
    """Compute `representative_beat`, and the repeatability ``(n, L)`` of the beats in each lead.

    The repeatability is the correlation between the means of two halves of the beats. One half has the beats 1, 4, 5,
    8, …, the other half has the beats 2, 3, 6, 7, …. So beats that alternate (bigeminy) are in both halves. The
    repeatability is near 1 in an ECG and near 0 in noise. It is NaN with fewer than two complete beats, and in a lead
    without any amplitude. Test theory calls it the split-half reliability (Brown, Br. J. Psychol. 3:296, 1910). Here
    beats take the place of test items.
    """
    return representative_beat(x, beats, fs), _repeatability(x, beats, fs)


def _is_complete(beats: Int, fs: float, samples: int) -> Bool:
    """Return which beats (n, B) are inside of a record."""
    return np.asarray((beats >= round(COMPLETE_BEFORE * fs)) & (beats + round(AFTER * fs) <= samples))


def _levels_at(by_time: Float, position: Float, is_usual: Bool, fs: float) -> Int:
    """Return the first sample of the level between P and QRS of the usual beats (n, B); negative for other beats."""
    centre = np.rint(position).astype(np.int64)
    num_before = round(EDGE_REACH[0] * fs)
    cut = cut_beats(by_time, centre - num_before, num_before + round(EDGE_REACH[1] * fs))
    level = cut[:, :, num_before - round(LEVEL_REACH[0] * fs) : num_before - round(LEVEL_REACH[1] * fs)]
    cut -= level.mean(axis=2, keepdims=True)
    median = median_of_beats(cut, is_usual).transpose(0, 2, 1)
    onset, _ = qrs_edges(median, fs, EDGE_REACH[0])
    from_onset = np.where(np.isfinite(onset), EDGE_REACH[0] - onset, USUAL_ONSET)
    first = centre - np.rint((from_onset + PQ[0]) * fs).astype(np.int64)[:, None]
    return np.where(is_usual, first, -1)


def _spline_weights(fraction: Float) -> tuple[Float, Float, Float, Float]:
    """Return the weights of the cubic B-spline coefficients around positions with these fractions of a sample."""
    rest = 1.0 - fraction
    return (
        rest**3 / 6.0,
        2.0 / 3.0 - fraction**2 * (2.0 - fraction) / 2.0,
        2.0 / 3.0 - rest**2 * (2.0 - rest) / 2.0,
        fraction**3 / 6.0,
    )


def _repeatability(x: NDArray[np.floating], beats: Int, fs: float) -> Float:
    """Return the correlation (n, L) between the means of two halves of the beats."""
    # Beats that are aligned with each other would correlate in noise, too. So they are cut where they were detected.
    reach = round(COMPARED_REACH * fs)
    is_complete = _is_complete(beats, fs, x.shape[-1])
    if not is_complete.any():
        return np.full(x.shape[:2], np.nan)
    filtered = band_pass(np.nan_to_num(x), fs, WANDER_CUTOFF, None)
    near_qrs = cut_beats(filtered.transpose(0, 2, 1), beats - reach, 2 * reach + 1)

    beat_number = np.cumsum(is_complete, axis=1)
    halves = []
    for remainders in ((0, 1), (2, 3)):
        is_in_half = is_complete & np.isin(beat_number % 4, remainders)
        weight = is_in_half / np.where(is_in_half.any(axis=1), is_in_half.sum(axis=1), np.nan)[:, None]
        mean = np.einsum("nbwl,nb->nlw", near_qrs, weight)
        halves.append(mean - mean.mean(axis=-1, keepdims=True))
    first, second = halves
    norm = np.sqrt(np.square(first).sum(axis=-1) * np.square(second).sum(axis=-1))
    return np.asarray((first * second).sum(axis=-1) / np.where(norm > MIN_AMPLITUDE**2, norm, np.nan))
