"""Project dipoles in the heart onto eight independent leads.

The axes are Frank's: x to the left arm, y to the feet, z to the back. Lengths are in cm from the centre of the heart.
Dower's matrix projects a dipole at the centre (Dower, Machado and Osborne 1980). One fixed dipole has only three
dimensions, so that dipoles elsewhere need another lead field: Dower's matrix, plus the difference between the fields of
a dipole at that place and at the centre in an infinite homogeneous conductor. The chest electrodes are close to the
heart. Therefore a septal source is large in V1-V2, and a lateral source is large in V5-V6. Last, each lead has a factor
that is fitted to real signals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.data.synthetic.fitted import lead_factors
from einthoven.functional.electrodes import electrode_matrix
from einthoven.functional.vectorcardiogram import DOWER, INDEPENDENT_LEADS

Array = NDArray[np.float64]

# Positions of RA, LA, LL and V1 to V6 in cm for an adult of average build.
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

# Matrix (8, 9) from the potentials of the electrodes to the eight leads.
FROM_ELECTRODES = electrode_matrix(INDEPENDENT_LEADS)


def _infinite_medium(electrodes: Array, sources: Array) -> Array:
    """Return the leads (S, 8, 3) of unit dipoles at `sources` (S, 3) in an infinite homogeneous conductor."""
    offset = electrodes[None] - sources[:, None]
    distance = np.linalg.norm(offset, axis=-1, keepdims=True)
    return np.asarray(FROM_ELECTRODES @ (offset / distance**3))


# The torso is finite and the lungs insulate. Local differences reach the chest leads at about half of their size.
LOCALITY = 0.5

_CENTRE = _infinite_medium(ELECTRODE_POSITIONS, np.zeros((1, 3)))[0]

# Factor of each lead that makes the field of an infinite conductor at the centre as strong as Dower's.
_SCALE = np.linalg.norm(DOWER, axis=1) / np.linalg.norm(_CENTRE, axis=1)


def lead_field(sources: Array, electrodes: Array = ELECTRODE_POSITIONS) -> Array:
    """Return the field of each source on the eight independent leads.

    Parameters
    ----------
    sources : array (S, 3)
        Places of the dipoles in cm from the centre of the heart.
    electrodes : array (9, 3)
        Positions of the electrodes in cm: RA, LA, LL, V1 to V6.

    Returns
    -------
    array (S, 8, 3)
        mV on each of `INDEPENDENT_LEADS` per unit of dipole on x, y, z.
    """
    difference = _infinite_medium(electrodes, sources) - _CENTRE
    field = DOWER + LOCALITY * _SCALE[:, None] * difference
    return np.asarray(lead_factors()[:, None] * field)
