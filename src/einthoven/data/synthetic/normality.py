"""Decide whether a reader would call the waves of a heart normal.

The limits are those of textbooks for adults (Surawicz and Knilans, "Chou's Electrocardiography in Clinical Practice",
chapter 1; Hancock et al. 2009 for hypertrophy; Thygesen et al. 2018 for Q waves). Amplitudes are in mV.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Rows of the eight leads.
LEAD_I, LEAD_II, V1, V2, V3, V4, V5, V6 = range(8)
LEFT_LEADS = [LEAD_I, LEAD_II, V4, V5, V6]

# Fractions of the QRS, and of QT.
QRS_CLOCK = np.linspace(0.0, 1.0, 26)
T_CLOCK = np.linspace(0.55, 1.0, 16)


@dataclass(frozen=True)
class Sources:
    """The K sources of one wave."""

    field: Array
    """What a unit dipole at each source contributes to the eight leads (K, 8, 3)."""
    moment: Array
    """(K, 3)"""
    centre: Array
    """Time of the maximum as a fraction of QRS or of QT (K,)."""
    width: Array
    """Standard deviation as such a fraction (K,)."""


def _signal(sources: Sources, clock: Array) -> Array:
    """Return the eight leads (8, T) of Gaussian kernels."""
    leads = np.einsum("klx,kx->kl", sources.field, sources.moment)
    kernels = np.exp(-0.5 * ((clock - sources.centre[:, None]) / sources.width[:, None]) ** 2)
    return np.asarray(leads.T @ kernels)


def qrs_and_t(qrs: Sources, t: Sources) -> tuple[Array, Array]:
    """Return the QRS (8, 26) and the T wave (8, 16) of a beat in mV."""
    return _signal(qrs, QRS_CLOCK), _signal(t, T_CLOCK)


def is_normal(qrs: Array, t: Array, age: int, female: bool) -> bool:
    """Return whether the QRS (8, 26) and the T wave (8, 16) of `qrs_and_t` are within normal limits."""
    return _normal_qrs(qrs) and _normal_voltage(qrs, age, female) and _normal_t(qrs, t)


def _normal_qrs(qrs: Array) -> bool:
    """Check the axis, the progression of R from V1 to V4, Q waves, and late forces to the right."""
    r = qrs.max(1)
    s = -qrs.min(1)

    # The axis is between -25 and 95 degrees. Readers call an axis above -30 degrees left anterior fascicular block.
    area_i = qrs[LEAD_I].sum()
    area_ii = qrs[LEAD_II].sum()
    axis = np.degrees(np.arctan2((2 * area_ii - area_i) / np.sqrt(3), area_i))
    if not -25 <= axis <= 95:
        return False

    # V1 is mainly negative, and R grows towards V4.
    if r[V1] > 0.6 * s[V1] or r[V2] < 0.06 or r[V3] < 0.2 or r[V4] < r[V2] or r[V4] < 0.3:
        return False
    late = QRS_CLOCK > 0.62
    if qrs[V1, late].max() > 0.05 or -qrs[V6, late].min() > 0.45 or -qrs[LEAD_I, late].min() > 0.35:
        return False

    # A Q wave is small.
    avf = qrs[LEAD_II] - qrs[LEAD_I] / 2
    for lead in (*qrs[[LEAD_I, LEAD_II, V4, V5, V6]], avf):
        peak = int(lead.argmax())
        q = -lead[: peak + 1].min()
        if q > max(0.25 * lead[peak], 0.06):
            return False
    return True


def _normal_voltage(qrs: Array, age: int, female: bool) -> bool:
    """Check the criteria of Sokolow-Lyon, Cornell and Gubner, and the lowest limb voltage."""
    r = qrs.max(1)
    s = -qrs.min(1)
    avl = float((qrs[LEAD_I] - qrs[LEAD_II] / 2).max())
    sokolow_limit = 3.5 if age >= 40 else 4.5
    cornell_limit = 2.0 if female else 2.8
    is_high = s[V1] + max(r[V5], r[V6]) > sokolow_limit or avl + s[V3] > cornell_limit or avl > 1.1
    is_low = max(r[LEAD_I] + s[LEAD_I], r[LEAD_II] + s[LEAD_II]) < 0.5
    return not is_high and not is_low


def _normal_t(qrs: Array, t: Array) -> bool:
    """Check that T is upright, and not flat, where R is tall."""
    r = qrs.max(1)
    for lead in LEFT_LEADS:
        if t[lead].max() < max(0.08, 0.09 * r[lead]) or t[lead].min() < -0.05:
            return False
    avf = t[LEAD_II] - t[LEAD_I] / 2
    return bool(t[V3].max() > 0.1 and t[V2].max() > 0.0 and avf.min() > -0.08)
