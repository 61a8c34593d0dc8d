"""Recognize the calibration pulse of an electrocardiograph: a rectangle of about 1 mV, the same in all leads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEIGHT = (0.4, 2.1)
"""Smallest and largest height of a pulse in mV. The usual heights are 0.5, 1 and 2 mV."""

WIDTH = (0.08, 0.45)
"""Shortest and longest pulse in s. The usual width is 0.2 s."""

EDGE = 0.02
"""Longest edge in s. The edges of a pulse can be filtered."""

FLAT = 0.02
"""Largest distance from a level in mV."""


def is_calibration_pulse(x: NDArray[np.floating], fs: float) -> bool:
    """Return whether a piece of a record is one rectangular pulse, at the same time in all leads.

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

    # The pulse is shorter than half of the piece, so that the median of a lead is its zero line.
    height = x - np.median(x, axis=1, keepdims=True)
    is_active = (np.abs(height) > FLAT).any(axis=0)
    active = np.flatnonzero(is_active)
    if not active.size:
        return False
    first = int(active[0])
    last = int(active[-1]) + 1
    is_one_run = bool(is_active[first:last].all())
    has_width = WIDTH[0] <= (last - first) / fs <= WIDTH[1]
    if not is_one_run or not has_width:
        return False

    # Between its edges, the pulse is flat. Leads that are computed from others, such as aVL, can have no pulse.
    edge = round(EDGE * fs)
    top = height[:, first + edge : last - edge]
    level = np.median(top, axis=1, keepdims=True)
    is_flat = bool((np.abs(top - level) <= FLAT).all())
    heights = np.abs(level[:, 0])
    has_pulse = (heights >= HEIGHT[0]) & (heights <= HEIGHT[1])
    return is_flat and 2 * int(has_pulse.sum()) >= len(x) and bool((has_pulse | (heights <= FLAT)).all())
