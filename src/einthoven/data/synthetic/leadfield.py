"""From dipoles in the heart to eight independent leads.

Axes are Frank's: x to the left arm, y to the feet, z to the back; lengths in centimetres from the heart's
centre. A dipole at the centre is projected by Dower's matrix (Dower, Machado and Osborne 1980). One fixed
dipole spans three dimensions only, so a source elsewhere sees a different lead field: the one of Dower plus
the difference between the fields of a dipole in an infinite homogeneous conductor at that place and at the
centre. Chest electrodes lie close to the heart, hence a septal source is large in V1-V2 and a lateral one in
V5-V6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.electrodes import electrode_matrix
from einthoven.functional.vectorcardiogram import DOWER, INDEPENDENT_LEADS

Array = NDArray[np.float64]

# RA, LA, LL, V1 to V6 of an adult of average build.
ELECTRODE_POSITIONS = np.array(
    [
        [-20.0, -18.0, 1.0],
        [16.0, -18.0, 1.0],
        [5.0, 40.0, 1.0],
        [-5.0, -1.0, -8.5],
        [0.5, -1.0, -9.5],
        [4.5, 0.5, -9.5],
        [8.5, 2.0, -8.0],
        [12.0, 2.0, -4.0],
        [14.0, 2.0, 1.0],
    ]
)

# Eight leads from nine electrode potentials.
FROM_ELECTRODES = electrode_matrix(INDEPENDENT_LEADS)


def _infinite_medium(electrodes: Array, sources: Array) -> Array:
    """Return the leads (S, 8, 3) of unit dipoles at `sources` (S, 3) in an unbounded homogeneous conductor."""
    offset = electrodes[None] - sources[:, None]
    distance = np.linalg.norm(offset, axis=-1, keepdims=True)
    return np.asarray(FROM_ELECTRODES @ (offset / distance**3))


# The torso is finite and its lungs insulate: local differences reach the chest leads at about half the size.
LOCALITY = 0.5

_CENTRE = _infinite_medium(ELECTRODE_POSITIONS, np.zeros((1, 3)))[0]
# Scale of each lead that makes the infinite-medium field at the centre as strong as Dower's.
_SCALE = np.linalg.norm(DOWER, axis=1) / np.linalg.norm(_CENTRE, axis=1)


def lead_field(sources: Array, electrodes: Array = ELECTRODE_POSITIONS) -> Array:
    """Return the field of each source on the eight independent leads.

    Parameters
    ----------
    sources : array (S, 3)
        Places of the dipoles, cm from the centre of the heart.
    electrodes : array (9, 3)
        Places of the electrodes of this patient, cm: RA, LA, LL, V1 to V6.

    Returns
    -------
    array (S, 8, 3)
        mV on each of `INDEPENDENT_LEADS` per unit of dipole on x, y, z.
    """
    return np.asarray(DOWER + LOCALITY * _SCALE[:, None] * (_infinite_medium(electrodes, sources) - _CENTRE))
