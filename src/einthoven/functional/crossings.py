"""Where beats cross a limit, and their level and noise in a window: helpers of the search for the edges of waves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


def positive(limit: Float) -> Float:
    """Replace limits of 0 by a tiny one, by which can be divided."""
    return np.maximum(limit, 1e-12)


def holds(condition: Bool, step: int, num_samples: int) -> Bool:
    """Return where a condition (n, W) holds at `num_samples` samples: a sample and those after it in steps of ±1.

    It does not hold outside of the beat.
    """
    result = condition.copy()
    for shift in range(1, num_samples):
        shifted = np.zeros_like(condition)
        if step > 0:
            shifted[:, :-shift] = condition[:, shift:]
        else:
            shifted[:, shift:] = condition[:, :-shift]
        result &= shifted
    return result


def first_quiet(size: Float, start: Int, step: int, num_quiet: int) -> Float:
    """Walk from sample `start` (n,) in steps of ±1 to the first `num_quiet` samples of `size` (n, W) below 1.

    Returns
    -------
    ndarray, shape (n,)
        Where `size` crosses 1, between two samples. NaN if there are no such samples.
    """
    samples = size.shape[1]

    # A sample is quiet if it and the next samples, away from the start, are below the limit.
    is_quiet = holds(size < 1.0, step, num_quiet)
    distance = (np.arange(samples) - start[:, None]) * step
    is_candidate = is_quiet & (distance > 0)
    edge = np.where(is_candidate, distance, samples).argmin(axis=1)

    # The size crosses 1 between the edge and the sample before it. A straight line gives the position.
    rows = np.arange(len(size))
    outer = size[rows, edge]
    inner = size[rows, np.clip(edge - step, 0, samples - 1)]
    fraction = (inner - 1.0) / np.maximum(inner - outer, 1e-12)
    position = edge - step + step * np.clip(fraction, 0.0, 1.0)
    return np.where(is_candidate.any(axis=1), position, np.nan)


def last_crossing(deviation: Float, is_away: Bool, fs: float, otherwise: Float) -> Float:
    """Return where the deviation (n, W) crosses 1, after the last sample that is away, in seconds (n,).

    It is `otherwise` (n,) if no sample is away.
    """
    samples = deviation.shape[1]
    last = samples - 1 - is_away[:, ::-1].argmax(axis=1)
    rows = np.arange(len(deviation))
    inner = deviation[rows, last]
    outer = deviation[rows, np.minimum(last + 1, samples - 1)]
    position = last + np.clip((inner - 1.0) / np.maximum(inner - outer, 1e-12), 0.0, 1.0)
    return np.where(is_away.any(axis=1), position / fs, otherwise)


def median_inside(values: Float, is_inside: Bool) -> Float:
    """Return the median (n, L) of values (n, L, W) over windows (n, W), 0 in an empty window."""
    # The sort puts the samples outside of the window last.
    count = is_inside.sum(axis=1)
    in_order = np.sort(np.where(is_inside[:, None], values, np.inf), axis=-1)
    middle = np.maximum(count - 1, 0)[:, None, None] // 2
    median = np.take_along_axis(in_order, middle, axis=-1)[..., 0]
    return np.where(count[:, None] > 0, median, 0.0)


def mean_and_deviation(beat: Float, is_inside: Bool) -> tuple[Float, Float]:
    """Return mean and standard deviation (n, L) of beats (n, L, W) over windows (n, W), 0 in an empty window."""
    weight = is_inside / np.maximum(is_inside.sum(axis=1, keepdims=True), 1)
    mean = np.einsum("nlw,nw->nl", beat, weight)
    square = np.einsum("nlw,nw->nl", np.square(beat - mean[..., None]), weight)
    return mean, np.sqrt(square)
