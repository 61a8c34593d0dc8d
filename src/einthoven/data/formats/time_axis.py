"""Place the groups of a file on one time axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import millivolts
from einthoven.data.formats.file_signals import MOST_BYTES, FileSignals
from einthoven.data.formats.group import Group, Lead
from einthoven.errors import UserError
from einthoven.functional.leads import derive_limb_leads

# Largest error of a limb-lead law between groups of one time, as a share of the amplitude of the leads.
_LAW_ERROR = 0.5
_LEAST_LAW_ERROR = 0.05  # mV; flat leads differ by their rounding


def place_groups(chosen: list[Group], strips: list[Group], source: str) -> tuple[FileSignals, list[Group]]:
    """Write the leads of all groups into one array in mV, each at its time.

    Parameters
    ----------
    chosen : list of Group
        The groups that make the time axis, with one sampling frequency, in the order of their starts.
    strips : list of Group
        Groups that fill what the others did not record.
    source : str
        Name of the file, for messages.

    Returns
    -------
    signals : FileSignals
        NaN where no group recorded a lead.
    used : list of Group
        The groups from which samples were taken.

    Raises
    ------
    UserError
        If the axis is too long, or if limb leads of different groups contradict each other.
    """
    fs = chosen[0].fs
    leads: dict[Lead, int] = {}
    for group in chosen:
        for lead in group.leads:
            leads.setdefault(lead, len(leads))
    offsets = _offsets(chosen)
    samples = max(offset + group.samples for offset, group in zip(offsets, chosen, strict=True))
    if samples * len(leads) * 8 > MOST_BYTES:
        seconds = samples / fs
        raise UserError(f"{source}: waveform groups over {seconds:,.0f} s; expected those of one recording.")

    values = np.full((len(leads), samples), np.nan)
    origin = np.full((len(leads), samples), -1, np.int16)
    for number, group in enumerate((*chosen, *strips)):
        # A strip can begin before the chosen groups, and end after them.
        offset = offsets[number] if number < len(chosen) else round((group.start or 0.0) * fs)
        first = min(max(offset, 0), samples)
        last = max(min(offset + group.samples, samples), first)
        signals, units = group.load()
        for lead, column in group.leads.items():
            scale = millivolts(units[column], source, group.names[column])
            row = leads[lead]
            is_free = origin[row, first:last] < 0
            values[row, first:last][is_free] = scale * signals[column, first - offset : last - offset][is_free]
            origin[row, first:last][is_free] = number
    _check_simultaneous(values, origin, leads, [*chosen, *strips], source)
    names = tuple(f"-{lead}" if sign < 0 else lead for lead, sign in leads)
    used = [group for number, group in enumerate((*chosen, *strips)) if (origin == number).any()]
    return FileSignals(values, names, ("mV",) * len(names), fs), used


def _offsets(chosen: list[Group]) -> list[int]:
    """Return the first sample of each group. A group that starts about where another ends, starts exactly there."""
    ends: list[int] = []
    offsets = []
    for group in chosen:
        offset = round((group.start or 0.0) * group.fs)
        limit = group.tolerance * group.fs
        near = [end for end in ends if abs(end - offset) <= limit]
        offset = near[0] if near else offset
        offsets.append(offset)
        ends.append(offset + group.samples)
    return offsets


def _check_simultaneous(
    values: NDArray[np.float64], origin: NDArray[np.int16], leads: dict[Lead, int], groups: list[Group], source: str
) -> None:
    """Refuse groups that are not of one time although they state one, or none: their limb leads contradict each other.

    References
    ----------
    Einthoven: III = II - I. Goldberger: aVR = -(I + II)/2, aVL = I - II/2, aVF = II - I/2.
    """
    rows = {lead: row for (lead, sign), row in leads.items() if sign > 0}
    if "I" not in rows or "II" not in rows:
        return
    derived = derive_limb_leads(values[rows["I"]], values[rows["II"]])
    base_groups = origin[[rows["I"], rows["II"]]]
    for expected, lead in zip(derived[2:], ("III", "aVR", "aVL", "aVF"), strict=True):
        if lead not in rows:
            continue
        actual = values[rows[lead]]
        is_of_other_group = (origin[rows[lead]] != base_groups[0]) & (base_groups[0] >= 0) & (origin[rows[lead]] >= 0)
        is_known = is_of_other_group & np.isfinite(expected) & np.isfinite(actual)
        if not is_known.any():
            continue
        error = np.std(actual[is_known] - expected[is_known])
        amplitude = max(np.std(actual[is_known]), np.std(expected[is_known]))
        if error > max(_LAW_ERROR * amplitude, _LEAST_LAW_ERROR):
            at = int(np.argmax(is_known))
            first = groups[origin[rows["I"], at]].name
            second = groups[origin[rows[lead], at]].name
            raise UserError(
                f"{source}: lead {lead} of {second} contradicts I and II of {first}, so that they are not of the same "
                "time; expected groups that state when they start."
            )
