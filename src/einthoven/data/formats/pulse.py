"""Recognize the calibration pulse of an electrocardiograph: a rectangle of about 1 mV, the same in all leads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEIGHT = (0.4, 2.1)
"""Smallest and largest height of a pulse in mV. The usual heights are 0.5, 1 and 2 mV."""

WIDTH = (0.08, 0.6)
"""Shortest and longest pulse in s. The usual width is 0.2 s."""


def is_calibration_pulse(x: NDArray[np.floating], fs: float) -> bool:
    """Return whether a piece of a record is one rectangular pulse from the zero line, at the same time in all leads.

    No ECG has this form: between the two edges of the pulse, and outside of them, no lead changes its value.

    Parameters
    ----------
    x : ndarray, shape (leads, T)
        mV.
    fs : float
        Sampling frequency in Hz.
    """
    if x.shape[1] < 3 or not np.isfinite(x).all():
        return False

    # The edges are where a lead changes its value. One edge is enough if the pulse begins or ends the piece.
    edges = np.flatnonzero((np.diff(x, axis=1) != 0).any(axis=0)) + 1
    if not 1 <= len(edges) <= 2:
        return False
    bounds = [0, *edges, x.shape[1]]
    levels = x[:, bounds[:-1]]
    pulse = int(np.argmax(np.abs(levels).sum(axis=0)))
    if len(edges) == 2 and pulse != 1:
        return False
    width = (bounds[pulse + 1] - bounds[pulse]) / fs
    zero_line = np.delete(levels, pulse, axis=1)
    heights = np.abs(levels[:, pulse])

    # Leads that are computed from others, such as aVL, can have no pulse.
    has_pulse = (heights >= HEIGHT[0]) & (heights <= HEIGHT[1])
    is_zero = heights < HEIGHT[0] / 8
    is_rectangle = bool(np.abs(zero_line).max() < HEIGHT[0] / 8 and (has_pulse | is_zero).all())
    return is_rectangle and 2 * int(has_pulse.sum()) >= len(x) and WIDTH[0] <= width <= WIDTH[1]
