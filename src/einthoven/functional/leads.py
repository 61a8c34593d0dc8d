"""The twelve leads: names, order, and the laws that connect the six limb leads."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Canonical lead order of every signal in this package."""

_CANONICAL = {lead.upper(): lead for lead in LEADS} | {"DI": "I", "DII": "II", "DIII": "III"}
_PREFIX = re.compile(r"^(MDC_ECG_LEAD_|MDC_ECG_|ECG|EKG|LEAD|[\s_:])+")
# DICOM writes "Lead I (Einthoven)".
_BRACKET = re.compile(r"\(.*\)$")


def canonical_lead(name: str) -> tuple[str, int] | None:
    """Return the canonical lead that a name in a file means, and the sign of the lead.

    Case and blanks do not matter. Examples of names: ``V1``, ``v 1``, ``AVR``, ``Lead aVF``, ``ECG Lead II``,
    ``ECG -aVR``, ``Lead-I``, ``Lead I (Einthoven)``, ``MDC_ECG_LEAD_V1``, ``DII``.

    Parameters
    ----------
    name : str
        Name of one signal in a file.

    Returns
    -------
    (str, int) or None
        One of `LEADS`, and 1 or -1. The sign is -1 if the name has a minus sign. A hyphen right behind a word, as in
        ``Lead-I``, is none. The result is None if the name means none of the twelve leads, or if a hyphen could be
        both, as in ``Lead - I``.
    """
    upper = name.strip().upper().replace("\N{MINUS SIGN}", "-")
    without_bracket = _BRACKET.sub("", upper)
    signed = _PREFIX.sub("", without_bracket)
    prefix = without_bracket.removesuffix(signed)
    lead = _CANONICAL.get(re.sub(r"[\s_]", "", signed.removeprefix("-")))
    if lead is None:
        return None
    if not signed.startswith("-") or prefix[-1:].isalpha():
        return lead, 1
    is_unclear = prefix.strip() != "" and signed[1:2].isspace()
    return None if is_unclear else (lead, -1)


def derive_limb_leads(i: NDArray[np.floating], ii: NDArray[np.floating]) -> NDArray[np.floating]:
    """Compute the six limb leads from I and II.

    Einthoven's law is ``III = II - I``. Goldberger's equations are ``aVR = -(I + II)/2``, ``aVL = I - II/2`` and
    ``aVF = II - I/2``.

    Parameters
    ----------
    i, ii : ndarray, shape (..., T)
        Leads I and II, both in the same unit.

    Returns
    -------
    ndarray, shape (..., 6, T)
        I, II, III, aVR, aVL, aVF in the same unit.
    """
    return np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2], axis=-2)
