"""Choose the beats of the usual shape, and align them with each other by their QRS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

SHAPE_REACH = 0.10
"""Seconds before and after the QRS in which beats are compared."""

LARGEST_SHIFT = 0.02
"""Seconds by which a beat is shifted at most. The detection of beats marks QRS of one shape more exactly than this."""

ALIGNMENT_FS = 250.0
"""Beats with a higher sampling frequency are averaged to about this one, in Hz, before they are compared."""

SAME_SHAPE = 0.2
"""A beat has another shape if its correlation with the most typical beat is lower than the usual one by this."""

ROUNDS = 2
"""Beats are aligned with their median so many times. The median is sharper each time."""


def align_beats(x: Float, beats: Int, is_complete: Bool, fs: float) -> tuple[Float, Bool]:
    """Find the exact positions of the beats of the usual shape.

    Parameters
    ----------
    x : ndarray, shape (n, T, L)
        Signals in mV.
    beats : ndarray, shape (n, B)
        Samples of the QRS complexes.
    is_complete : ndarray of bool, shape (n, B)
        The beats that may be chosen.

    Returns
    -------
    position : ndarray, shape (n, B)
        Position of each beat in samples, with fractions. Its mean over the chosen beats is that of `beats`.
    is_usual : ndarray of bool, shape (n, B)
        Whether a beat is complete and has the usual shape.

    References
    ----------
    Jané et al., IEEE Trans. Biomed. Eng. 38:571, 1991 (alignment by the maximum of the cross-correlation).
    """
    # The mean over a few samples is a low-pass filter.
    step = max(int(fs / ALIGNMENT_FS), 1)
    reach = max(round(SHAPE_REACH * fs / step), 2)
    largest = max(round(LARGEST_SHIFT * fs / step), 1)
    margin = largest + 1
    count = 2 * (reach + margin) + 1
    cut = cut_beats(x, beats - step * (reach + margin) - step // 2, step * count)
    near_qrs = cut.reshape(*beats.shape, count, step, -1).mean(axis=3)
    is_usual = is_complete & _has_usual_shape(near_qrs[:, :, margin:-margin], is_complete)

    # Slopes do not depend on the baseline.
    slopes = near_qrs[:, :, 2:] - near_qrs[:, :, :-2]
    length = 2 * reach + 1
    shift = np.zeros(beats.shape)
    for _ in range(ROUNDS):
        starts = largest + np.rint(shift).astype(np.int64)
        index = starts[:, :, None] + np.arange(length)
        aligned = np.take_along_axis(slopes, index[..., None], axis=2)
        template = np.nan_to_num(median_of_beats(aligned, is_usual))
        shift = np.where(is_usual, _best_shift(slopes, template, largest), 0.0)
        mean_shift = shift.sum(axis=1) / np.maximum(is_usual.sum(axis=1), 1)
        shift = np.clip(shift - mean_shift[:, None], -largest, largest)
    return beats + step * np.where(is_usual, shift, 0.0), is_usual


def cut_beats(x: Float, first: Int, length: int) -> Float:
    """Cut ``(n, B, length, L)`` out of signals (n, T, L), from the samples `first` (n, B) on.

    The first and the last sample of a record stand for what lies outside of it.
    """
    index = np.clip(first[:, :, None] + np.arange(length), 0, x.shape[1] - 1)
    return np.asarray(x[np.arange(len(x))[:, None, None], index])


def median_of_beats(cut: Float, is_chosen: Bool) -> Float:
    """Return the median (n, W, L) of the chosen beats of (n, B, W, L). NaN without a beat. `cut` is overwritten."""
    # The other beats become infinite, so the sort puts them behind the chosen ones.
    cut[~is_chosen] = np.inf
    cut.sort(axis=1)
    count = is_chosen.sum(axis=1)
    rows = np.arange(len(cut))
    median = (cut[rows, np.maximum(count - 1, 0) // 2] + cut[rows, count // 2]) / 2
    median[count == 0] = np.nan
    return np.asarray(median)


def _has_usual_shape(near_qrs: Float, is_complete: Bool) -> Bool:
    """Return which beats (n, B) of (n, B, W, L) have the usual shape.

    The most typical beat is the one with the largest mean correlation with the better half of the complete beats. With
    two shapes, that is the shape of more than half of the beats.
    """
    shape = near_qrs - near_qrs.mean(axis=2, keepdims=True)
    shape = shape.reshape(*near_qrs.shape[:2], -1)
    norm = np.sqrt(np.square(shape).sum(axis=2, keepdims=True))
    shape /= np.where(norm > 0, norm, np.inf)
    correlation = shape @ shape.transpose(0, 2, 1)
    is_pair = is_complete[:, :, None] & is_complete[:, None, :]

    # Pairs with an incomplete beat come last, and the sum of the first ones does not contain them.
    descending = -np.sort(np.where(is_pair, -correlation, np.inf), axis=2)
    sums = np.cumsum(np.where(np.isfinite(descending), descending, 0.0), axis=2)
    half = np.maximum((is_complete.sum(axis=1) + 1) // 2, 1)
    rows = np.arange(len(shape))
    usual = sums[rows[:, None], np.arange(shape.shape[1]), half[:, None] - 1] / half[:, None]
    most_typical = np.where(is_complete, usual, -np.inf).argmax(axis=1)
    limit = usual[rows, most_typical] - SAME_SHAPE
    return np.asarray(correlation[rows, most_typical] >= limit[:, None])


def _best_shift(slopes: Float, template: Float, largest: int) -> Float:
    """Return where the template (n, W, L) fits the slopes (n, B, W + 2 `largest`, L) best, in samples (n, B).

    It is the maximum of the cross-correlation over all leads. A parabola gives its position between samples.
    """
    length = template.shape[1]
    starts = range(2 * largest + 1)
    score = np.stack([np.einsum("nbwl,nwl->nb", slopes[:, :, k : k + length], template) for k in starts], axis=-1)
    best = np.clip(score.argmax(axis=-1), 1, 2 * largest - 1)[..., None]
    before = np.take_along_axis(score, best - 1, axis=-1)
    peak = np.take_along_axis(score, best, axis=-1)
    after = np.take_along_axis(score, best + 1, axis=-1)
    curvature = before - 2.0 * peak + after
    is_maximum = curvature < 0
    fraction = np.where(is_maximum, 0.5 * (before - after) / np.where(is_maximum, curvature, 1.0), 0.0)
    return np.asarray((best + np.clip(fraction, -1.0, 1.0) - largest)[..., 0])
