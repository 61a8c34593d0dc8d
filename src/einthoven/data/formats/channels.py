"""What the columns of a file are: their leads, by name alone, and their amplitudes in mV."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS, canonical_lead, derive_limb_leads

MILLIVOLT = {
    "nv": 1e-6,
    "uv": 1e-3,
    "mv": 1.0,
    "v": 1e3,
    "nanovolt": 1e-6,
    "microvolt": 1e-3,
    "millivolt": 1.0,
    "volt": 1e3,
}  # amplitude of one unit in mV
_MICRO = str.maketrans("µμ", "uu")  # the micro sign and the Greek letter

LIMB = LEADS[:6]
_LAWS = derive_limb_leads(np.array([1.0, 0.0]), np.array([0.0, 1.0]))  # (6, 2): each limb lead from I and II


def millivolts(unit: str, source: str, lead: str) -> float:
    """Amplitude of one `unit` in mV.

    Parameters
    ----------
    unit : str
        As it stands in the file, in any case: ``mV``, ``uV``, ``µV``, ``nV``, ``V`` or the word.
    source, lead : str
        Name of the file and of its signal, for the sentence.

    Raises
    ------
    UserError
        If the unit is missing or not one of these.
    """
    scale = MILLIVOLT.get(unit.strip().lower().translate(_MICRO))
    if scale is None:
        found = f"unknown unit {shown(unit)}" if unit.strip() else "no unit"
        raise UserError(f"{source}: lead {lead}: {found}; expected mV, uV, nV or V.")
    return scale


def shown(text: str) -> str:
    """Text of a file as it can stand in a sentence: quoted, on one line, not too long."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")


@dataclass(frozen=True)
class LeadMap:
    """How the leads that are wanted come out of the signals of a file.

    Attributes
    ----------
    matrix : ndarray of float64, shape (wanted leads, signals)
        Each wanted lead as a sum of signals; read-only.
    order : tuple of int or None
        Column of each wanted lead where all stand in the file as they are; None where one is derived or turned in sign.
    notes : tuple of str
        What was renamed, turned in sign, derived and dropped, one sentence each.
    """

    matrix: NDArray[np.float64]
    order: tuple[int, ...] | None
    notes: tuple[str, ...]

    def apply(self, signals: NDArray[np.floating]) -> NDArray[np.floating]:
        """The wanted leads (wanted, T) of the file's signals (signals, T), all in one unit.

        A sum runs over the signals that it needs alone, so that NaN in one lead stays out of the others.
        """
        if self.order is not None:
            return signals[list(self.order)]
        out = np.empty((len(self.matrix), signals.shape[1]), dtype=np.result_type(signals, np.float32))
        for row, weights in zip(out, self.matrix, strict=True):
            used = np.flatnonzero(weights)
            row[:] = weights[used] @ signals[used]
        return out


def lead_map(names: tuple[str, ...], want: tuple[str, ...], source: str) -> LeadMap:
    """Find the wanted leads among the signals of a file.

    Parameters
    ----------
    names : tuple of str
        Names of the signals, as in the file.
    want : tuple of str
        Canonical leads to return, in this order. Only what they need must be there: limb leads that are missing
        are derived from two that are present, I and II first.
    source : str
        Name of the file, for the sentence.

    Raises
    ------
    UserError
        If a lead is named twice, or a wanted lead is neither there nor to be derived.

    References
    ----------
    Einthoven: III = II - I. Goldberger: aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2.
    """
    try:
        return _lead_map(names, want)
    except UserError as error:  # the file's name is no part of the question, so that the answer can be kept
        raise UserError(f"{source}: {error}") from None


@lru_cache(maxsize=256)
def _lead_map(names: tuple[str, ...], want: tuple[str, ...]) -> LeadMap:
    column: dict[str, int] = {}
    signs, renamed, turned, dropped = {}, [], [], []
    for index, name in enumerate(names):
        known = canonical_lead(name)
        if known is None:
            dropped.append(shown(name))
            continue
        lead, sign = known
        if lead in column:
            twice = " and ".join(shown(names[k]) for k in (column[lead], index))
            raise UserError(f"lead {lead} is named twice, as {twice}; expected each lead once.")
        column[lead], signs[lead] = index, sign
        if sign < 0:
            turned.append(f"{shown(name)} to {lead}")
        elif name.strip().upper() != lead.upper():
            renamed.append(f"{shown(name)} as {lead}")

    matrix = np.zeros((len(want), len(names)))
    base = [lead for lead in LIMB if lead in column][:2]
    from_base = _LAWS @ np.linalg.inv(_LAWS[[LIMB.index(lead) for lead in base]]) if len(base) == 2 else None
    derived, missing = [], []
    for row, lead in zip(matrix, want, strict=True):
        if lead in column:
            row[column[lead]] = signs[lead]
        elif lead in LIMB and from_base is not None:
            for weight, given in zip(from_base[LIMB.index(lead)], base, strict=True):
                row[column[given]] = weight * signs[given]
            derived.append(lead)
        else:
            missing.append(lead)
    if missing:
        raise UserError(_missing(missing, names, want))
    matrix.setflags(write=False)

    notes = []
    if renamed:
        notes.append(f"read {', '.join(renamed)}")
    if turned:
        notes.append(f"turned in sign: {', '.join(turned)}")
    if derived:
        notes.append(f"{', '.join(derived)} derived from {' and '.join(base)}")
    if dropped:
        notes.append(f"dropped {', '.join(dropped)}: not among the twelve leads")
    plain = not derived and all(signs[lead] == 1 for lead in want)
    return LeadMap(matrix, tuple(column[lead] for lead in want) if plain else None, tuple(notes))


def _missing(missing: list[str], names: tuple[str, ...], want: tuple[str, ...]) -> str:
    found = shown(" ".join(name.strip() for name in names)) if names else "no leads"
    limb = " (limb leads may be left out where two of them are there)" if set(missing) & set(LIMB) else ""
    return (
        f"lead{'s' * (len(missing) > 1)} {', '.join(missing)} missing: found {found}, expected {' '.join(want)}{limb}."
    )
