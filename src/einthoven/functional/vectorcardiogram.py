"""The heart as one dipole: Frank's three leads, and the twelve leads that can be computed from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.electrodes import rows_of
from einthoven.functional.leads import LEADS, derive_limb_leads

INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""The eight leads from which the other four can be computed. They are the rows of `DOWER`."""

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
"""Matrix (8, 3) from Frank's leads to the independent leads. The columns are x (to the left arm), y (to the feet) and z
(to the back). Source: Dower, Machado and Osborne 1980, "On deriving the electrocardiogram from vectorcardiographic
leads", Clin. Cardiol. 3:87."""


def dower_matrix(leads: Sequence[str] = LEADS) -> NDArray[np.float64]:
    """Return the matrix ``(L, 3)`` from Frank's x, y and z to the leads.

    Eight rows are those of `DOWER`. The other four follow from the limb-lead laws.
    """
    limb = derive_limb_leads(DOWER[0], DOWER[1])
    return rows_of(np.concatenate([limb, DOWER[2:]]), leads)


def inverse_dower_matrix(leads: Sequence[str] = LEADS) -> NDArray[np.float64]:
    """Return the matrix ``(3, L)`` from the leads to Frank's x, y and z: the inverse Dower transform.

    It is the pseudo-inverse of `DOWER`, so it gives the dipole that explains the eight independent leads best. The
    other four leads have the weight 0. Source: Edenbrandt and Pahlm 1988, "Vectorcardiogram synthesized from a 12-lead
    ECG", J. Electrocardiol. 21:361.

    Parameters
    ----------
    leads
        Names of the leads. They must include all of `INDEPENDENT_LEADS`.
    """
    to_dipole = np.zeros((3, len(leads)))
    columns = [list(leads).index(name) for name in INDEPENDENT_LEADS]
    to_dipole[:, columns] = np.linalg.pinv(DOWER)
    return to_dipole
