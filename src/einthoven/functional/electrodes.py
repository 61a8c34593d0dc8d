"""The linear map from the potentials of the nine electrodes to the leads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")
"""The electrodes from which the twelve leads are computed. The electrode on the right leg is the ground."""


def electrode_matrix(leads: Sequence[str] = LEADS) -> NDArray[np.float64]:
    """Return the matrix ``(L, 9)`` from the potentials of `ELECTRODES` to the leads.

    Einthoven: I = LA - RA, II = LL - RA, III = LL - LA. Goldberger: aVR = RA - (LA + LL)/2, and aVL and aVF
    accordingly. Wilson: a chest lead is the potential of its electrode minus the mean of the three limbs.

    Raises
    ------
    UserError
        If a lead is not one of the twelve.
    """
    ra, la, ll, *chest = np.eye(9)
    wilson = (ra + la + ll) / 3
    limb = [la - ra, ll - ra, ll - la, ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (ra + la) / 2]
    return rows_of(np.stack([*limb, *(v - wilson for v in chest)]), leads)


def rows_of(matrix: NDArray[np.float64], leads: Sequence[str]) -> NDArray[np.float64]:
    """Select the rows of `leads` from a matrix that has one row for each of the twelve leads."""
    unknown = [name for name in leads if name not in LEADS]
    if unknown:
        raise UserError(f"leads: unknown lead {', '.join(unknown)}; expected some of {', '.join(LEADS)}.")
    return matrix[[LEADS.index(name) for name in leads]]
