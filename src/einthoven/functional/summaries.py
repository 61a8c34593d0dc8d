"""Median and spread of the finite values of each row of an array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

NORMAL_IQR = 1.349
"""Interquartile range of a normal distribution with a standard deviation of one."""


@dataclass(frozen=True)
class Summary:
    """The finite values of each row, in three numbers. All arrays have the shape of the rows.

    Attributes
    ----------
    median : ndarray of float64
        NaN without a finite value.
    spread : ndarray of float64
        Interquartile range divided by `NORMAL_IQR`, which is the standard deviation of a normal distribution. NaN
        without a finite value.
    count : ndarray of int64
        Number of finite values.
    """

    median: Float
    spread: Float
    count: Int


def summarize(values: NDArray[np.floating]) -> Summary:
    """Summarize each row (..., B). Quantiles are those of ``numpy.percentile`` of the finite values.

    A row has the same summary whatever the other rows are, and however many values that are not finite fill it up.
    """
    if values.shape[-1] == 0:
        nothing = np.full(values.shape[:-1], np.nan)
        return Summary(nothing, nothing, np.zeros(values.shape[:-1], np.int64))
    # The sort puts NaN last.
    is_finite = np.isfinite(values)
    ordered = np.sort(np.where(is_finite, values, np.nan), axis=-1)
    count = is_finite.sum(axis=-1)
    low, median, high = (_quantile(ordered, count, share) for share in (0.25, 0.5, 0.75))
    return Summary(median, (high - low) / NORMAL_IQR, count)


def _quantile(ordered: Float, count: Int, share: float) -> Float:
    """Return a quantile of the first `count` values of each sorted row, on a line between the two nearest values."""
    last = np.maximum(count - 1, 0)
    position = share * last
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, last)
    lower = np.take_along_axis(ordered, below[..., None], axis=-1)[..., 0]
    upper = np.take_along_axis(ordered, above[..., None], axis=-1)[..., 0]
    fraction = position - below
    # From the nearer of the two values, so that rounding never leads beyond one of them.
    difference = upper - lower
    return np.where(fraction < 0.5, lower + fraction * difference, upper - (1 - fraction) * difference)
