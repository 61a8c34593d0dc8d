"""The twelve leads: names, order, and the laws that tie the six limb leads together."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Canonical lead order of every signal in this package."""

_CANONICAL = {lead.upper(): lead for lead in LEADS} | {"DI": "I", "DII": "II", "DIII": "III"}
_PREFIX = re.compile(r"^(MDC_ECG_LEAD_|MDC_ECG_|ECG|EKG|LEAD|[\s_:])+")
_BRACKET = re.compile(r"\(.*\)$")  # DICOM's "Lead I (Einthoven)"


def canonical_lead(name: str) -> tuple[str, int] | None:
    """The canonical lead that a file's name for it means, and its sign.

    Read in any case and with blanks: ``V1``, ``v 1``, ``AVR``, ``Lead aVF``, ``ECG Lead II``, ``ECG -aVR``,
    ``Lead I (Einthoven)``, ``MDC_ECG_LEAD_V1``, ``DII``.

    Parameters
    ----------
    name : str
        Name of one signal in a file.

    Returns
    -------
    (str, int) or None
        One of `LEADS` and 1, or -1 where the name has a minus sign; None where it is none of the twelve.
    """
    key = _PREFIX.sub("", _BRACKET.sub("", name.strip().upper().replace("\N{MINUS SIGN}", "-")))
    sign = -1 if key.startswith("-") else 1
    lead = _CANONICAL.get(re.sub(r"[\s_]", "", key.removeprefix("-")))
    return None if lead is None else (lead, sign)


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
