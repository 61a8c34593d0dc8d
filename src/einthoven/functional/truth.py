"""The layout of the exact truth of a generated record: one array (7, T) of masks, heart vector and conditions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.delineation import MASKS

AXES = ("x", "y", "z")
"""Axes of the heart vector: to the left, to the feet, to the back."""

WAVE_ROWS = slice(0, len(MASKS))
DIPOLE_ROWS = slice(len(MASKS), len(MASKS) + len(AXES))
CONDITION_ROW = len(MASKS) + len(AXES)
"""Rows of the truth: the masks, the heart vector in µV, and the conditions in the first samples of the last row."""

NOTHING = -1
"""Value of the row of conditions behind the last condition."""


def count_conditions(condition_row: NDArray[np.generic]) -> int:
    """Return the number of conditions in the row of conditions (T,) of one record."""
    return int((condition_row != NOTHING).sum())
