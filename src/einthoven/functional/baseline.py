"""Baseline of ECGs: a curve through the levels between P and QRS of the beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]


def subtract_baseline(x: Float, levels_at: Int, length: int) -> Float:
    """Subtract a curve through the levels of all beats from each lead.

    The curve is a cubic spline (Meyer & Keiser, Comput. Biomed. Res. 10:459, 1977). Before the first and after the last
    level it is constant. A record without a level is centred on its mean.

    Parameters
    ----------
    x : ndarray, shape (n, L, T)
        Signals in mV.
    levels_at : ndarray, shape (n, B)
        First sample of each level, in ascending order. A negative one is no level.
    length : int
        Number of samples of a level. The level is their mean.
    """
    from scipy.interpolate import make_interp_spline

    samples = x.shape[-1]
    result: Float = x - x.mean(axis=-1, keepdims=True)
    time = np.arange(samples)
    for row, starts in enumerate(levels_at):
        first = starts[(starts >= 0) & (starts + length <= samples)]
        if not len(first):
            continue
        levels = result[row][:, first[:, None] + np.arange(length)].mean(axis=-1)
        centre = first + (length - 1) / 2
        # A spline of degree k needs k + 1 levels.
        spline = make_interp_spline(centre, levels, k=min(3, len(centre) - 1), axis=-1)
        result[row] -= spline(np.clip(time, centre[0], centre[-1]))
    return result
