"""QT corrected for the heart rate: formulas, limits, and what forbids the comparison with a limit."""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

LIMITS = {"male": 450.0, "female": 460.0}
"""Sex -> upper limit of QTc in ms (Rautaharju et al., Circulation 119:e241, 2009)."""

NAMES = {"male": "men", "female": "women"}

WIDE_QRS = 120.0
"""QRS duration in ms from which on QTc is flagged (Rautaharju et al. 2009)."""

FIBRILLATION = "possible atrial fibrillation"
PACED = "paced rhythm"


@overload
def fridericia(qt: float, rr: float) -> float: ...
@overload
def fridericia(qt: Float, rr: Float) -> Float: ...
def fridericia(qt: Float | float, rr: Float | float) -> Float | float:
    """Return QTc = QT / ∛RR, with RR in seconds (Fridericia, Acta Med. Scand. 53:469, 1920)."""
    return qt / np.cbrt(rr)


@overload
def bazett(qt: float, rr: float) -> float: ...
@overload
def bazett(qt: Float, rr: Float) -> Float: ...
def bazett(qt: Float | float, rr: Float | float) -> Float | float:
    """Return QTc = QT / √RR, with RR in seconds (Bazett, Heart 7:353, 1920)."""
    return qt / np.sqrt(rr)


def cautions(is_paced: bool, has_fibrillation: bool, qrs: float | None) -> tuple[str, ...]:
    """Return why the QTc of a record is not comparable with the limits.

    Rate correction fails if RR varies much, as in atrial fibrillation. QT is long if the ventricles are activated
    slowly, as in pacing and with a wide QRS (Rautaharju et al. 2009).

    Parameters
    ----------
    is_paced, has_fibrillation : bool
    qrs : float or None
        QRS duration in ms; None if unknown.
    """
    reasons = []
    if is_paced:
        reasons.append(PACED)
    if has_fibrillation:
        reasons.append(FIBRILLATION)
    if qrs is not None and qrs >= WIDE_QRS:
        reasons.append(f"QRS of {qrs:.0f} ms is part of QT")
    return tuple(reasons)


def exceeded_limits(qtc: float, sex: str | None) -> tuple[str, ...]:
    """Return a sentence for each limit that a QTc in ms exceeds: of the patient's sex, or of both if it is unknown."""
    sexes = [sex] if sex in LIMITS else list(LIMITS)
    exceeded = [name for name in sexes if qtc > LIMITS[name]]
    return tuple(f"above {LIMITS[name]:g} ms, the upper limit of {NAMES[name]}" for name in exceeded)
