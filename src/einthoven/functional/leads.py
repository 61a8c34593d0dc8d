"""The twelve leads: names, order, and the laws that tie the six limb leads together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Canonical lead order of every signal in this package."""


def derive_limb_leads(i: NDArray[np.floating], ii: NDArray[np.floating]) -> NDArray[np.floating]:
    """The six limb leads from I and II.

    Einthoven: ``III = II - I``; Goldberger: ``aVR = -(I + II)/2``, ``aVL = I - II/2``, ``aVF = II - I/2``.

    Parameters
    ----------
    i, ii : ndarray, shape (..., T)
        Leads I and II, in any one unit.

    Returns
    -------
    ndarray, shape (..., 6, T)
        I, II, III, aVR, aVL, aVF in the same unit.
    """
    return np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2], axis=-2)
