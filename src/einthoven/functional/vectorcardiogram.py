"""The heart as one dipole: Frank's three leads, and the twelve leads that they predict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.electrodes import rows_of
from einthoven.functional.leads import LEADS, derive_limb_leads

INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""Leads from which the other four follow: rows of `DOWER`."""

DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
"""Independent leads from Frank's x (to the left arm), y (to the feet) and z (to the back): Dower, Machado and
Osborne 1980, "On deriving the electrocardiogram from vectorcardiographic leads", Clin. Cardiol. 3:87."""


def dower_matrix(leads: Sequence[str] = LEADS) -> NDArray[np.float64]:
    """Return the matrix ``(L, 3)`` from Frank's x, y and z to the leads, by Dower's eight rows and the limb-lead laws.

    Its pseudo-inverse takes the leads to the dipole that explains them best, as the inverse Dower transform
    does (Edenbrandt and Pahlm 1988, "Vectorcardiogram synthesized from a 12-lead ECG", J. Electrocardiol.
    21:361).
    """
    limb = derive_limb_leads(DOWER[0], DOWER[1])
    return rows_of(np.concatenate([limb, DOWER[2:]]), leads)
