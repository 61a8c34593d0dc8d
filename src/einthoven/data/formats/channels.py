"""Map the channels of a file to leads by their names, and their amplitudes to mV."""

from __future__ import annotations

from collections.abc import Iterator
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
}
"""Lower-case name of a unit -> the unit in mV."""

MICRO_TO_U = str.maketrans("µμ", "uu")
"""Table of `str.translate`: both the micro sign and the Greek letter mu become "u"."""

LIMB = LEADS[:6]

# Each limb lead as a sum of I and II, shape (6, 2).
_LIMB_FROM_I_AND_II = derive_limb_leads(np.array([1.0, 0.0]), np.array([0.0, 1.0]))


def millivolts(unit: str, source: str, lead: str) -> float:
    """Return a unit in mV, for example 0.001 for µV.

    Parameters
    ----------
    unit : str
        The unit as the file states it, in any case: ``mV``, ``uV``, ``µV``, ``nV``, ``V``, or the word.
    source, lead : str
        Names of the file and of the signal, for the message.

    Raises
    ------
    UserError
        If the unit is missing or unknown.
    """
    scale = _scale(unit)
    if scale is None:
        problem = f"unknown unit {quote(unit)}" if unit.strip() else "no unit"
        raise UserError(f"{source}: lead {lead}: {problem}; expected mV, uV, nV or V.")
    return scale


def is_unit(text: str) -> bool:
    """Decide whether a text is the name of a unit of voltage."""
    return _scale(text) is not None


def is_same_unit(text: str, other: str) -> bool:
    """Decide whether two texts are names of one unit, such as µV and uV."""
    return is_unit(text) and _scale(text) == _scale(other)


def _scale(unit: str) -> float | None:
    """Return a unit in mV; None if it is unknown."""
    return MILLIVOLT.get(unit.strip().lower().translate(MICRO_TO_U))


def quote(text: str) -> str:
    """Quote text of a file for a message: on one line, with at most 80 characters."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")


@dataclass(frozen=True)
class LeadMap:
    """How to compute the wanted leads from the signals of a file.

    Attributes
    ----------
    matrix : ndarray of float64, shape (wanted leads, signals)
        Each wanted lead is a weighted sum of signals. The array is read-only.
    order : tuple of int or None
        The column of each wanted lead, if the file contains all of them with the usual sign; None if a lead is derived
        or inverted.
    notes : tuple of str
        What was renamed, inverted, derived and dropped, one sentence each.
    """

    matrix: NDArray[np.float64]
    order: tuple[int, ...] | None
    notes: tuple[str, ...]

    def rows(self, signals: NDArray[np.floating], scales: NDArray[np.float64]) -> Iterator[NDArray[np.floating]]:
        """Compute the wanted leads, one at a time, as all of them can need much memory.

        Parameters
        ----------
        signals : ndarray, shape (signals, T)
        scales : ndarray, shape (signals,)
            Factor of each signal, such as 0.001 from µV to mV.

        Returns
        -------
        iterator of ndarray, shape (T,)
        """
        # A lead is computed from its own terms only. A matrix product would spread NaN to all leads (0 * NaN is NaN).
        for weights in self.matrix * scales:
            first, *others = np.flatnonzero(weights)
            lead: NDArray[np.floating] = signals[first] * weights[first]
            for column in others:
                lead += signals[column] * weights[column]
            yield lead


class MissingLeadsError(UserError):
    """A file lacks leads that are wanted and cannot be derived.

    Attributes
    ----------
    leads : tuple of str
        The missing leads.
    """

    def __init__(self, message: str, leads: tuple[str, ...]) -> None:
        super().__init__(message)
        self.leads = leads


def lead_map(names: tuple[str, ...], want: tuple[str, ...], source: str) -> LeadMap:
    """Find the wanted leads among the signals of a file.

    Missing limb leads are derived from two limb leads of the file. I and II are preferred.

    Parameters
    ----------
    names : tuple of str
        Names of the signals as the file states them.
    want : tuple of str
        Canonical leads in the order of the result. Other leads may be missing.
    source : str
        Name of the file, for the message.

    Raises
    ------
    MissingLeadsError
        If a wanted lead is missing and cannot be derived.
    UserError
        If a lead is named twice.

    References
    ----------
    Einthoven: III = II - I. Goldberger: aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2.
    """
    # The cached function does not get the name of the file, so that all files of one layout share an entry.
    try:
        return _lead_map(names, want)
    except MissingLeadsError as error:
        raise MissingLeadsError(f"{source}: {error}", error.leads) from None
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


@lru_cache(maxsize=256)
def _lead_map(names: tuple[str, ...], want: tuple[str, ...]) -> LeadMap:
    # Give each signal its lead, and collect the notes.
    columns: dict[str, int] = {}
    signs: dict[str, int] = {}
    renamed = []
    inverted = []
    dropped = []
    for index, name in enumerate(names):
        lead_and_sign = canonical_lead(name)
        if lead_and_sign is None:
            dropped.append(quote(name))
            continue
        lead, sign = lead_and_sign
        if lead in columns:
            first = quote(names[columns[lead]])
            second = quote(name)
            raise UserError(f"lead {lead} is named twice, as {first} and {second}; expected each lead once.")
        columns[lead] = index
        signs[lead] = sign
        if sign < 0:
            inverted.append(f"{quote(name)} to {lead}")
        elif name.strip().upper() != lead.upper():
            renamed.append(f"{quote(name)} as {lead}")

    # Any two limb leads give the other four: invert the equations of these two for I and II.
    base = [lead for lead in LIMB if lead in columns][:2]
    limb_from_base = None
    if len(base) == 2:
        base_from_i_and_ii = _LIMB_FROM_I_AND_II[[LIMB.index(lead) for lead in base]]
        limb_from_base = _LIMB_FROM_I_AND_II @ np.linalg.inv(base_from_i_and_ii)

    # Write one row of weights for each wanted lead.
    matrix = np.zeros((len(want), len(names)))
    derived = []
    missing = []
    for row, lead in zip(matrix, want, strict=True):
        if lead in columns:
            row[columns[lead]] = signs[lead]
        elif lead in LIMB and limb_from_base is not None:
            for weight, base_lead in zip(limb_from_base[LIMB.index(lead)], base, strict=True):
                row[columns[base_lead]] = weight * signs[base_lead]
            derived.append(lead)
        else:
            missing.append(lead)
    if missing:
        raise MissingLeadsError(_missing_leads_message(missing, names, want), tuple(missing))
    matrix.setflags(write=False)

    notes = []
    if renamed:
        notes.append(f"read {', '.join(renamed)}")
    if inverted:
        notes.append(f"inverted: {', '.join(inverted)}")
    if derived:
        notes.append(f"{', '.join(derived)} derived from {' and '.join(base)}")
    if dropped:
        notes.append(f"dropped {', '.join(dropped)}: not among the twelve leads")

    order = None
    if not derived and all(signs[lead] == 1 for lead in want):
        order = tuple(columns[lead] for lead in want)
    return LeadMap(matrix, order, tuple(notes))


def _missing_leads_message(missing: list[str], names: tuple[str, ...], want: tuple[str, ...]) -> str:
    plural = "s" if len(missing) > 1 else ""
    present = quote(" ".join(name.strip() for name in names)) if names else "no leads"
    hint = " (limb leads may be left out where two of them are there)" if set(missing) & set(LIMB) else ""
    return f"lead{plural} {', '.join(missing)} missing: found {present}, expected {' '.join(want)}{hint}."
