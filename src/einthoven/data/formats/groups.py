"""Choose and join the waveform groups of a file: multiplex groups of DICOM, sequence sets of aECG, waveforms of MUSE.

A file can contain median beats and calibration pulses beside the rhythm. The rhythm can be in several groups: one after
the other, or some leads in each group. Labels are not reliable, so that duration and leads decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import millivolts, quote
from einthoven.data.formats.file_signals import MOST_BYTES, FileSignals
from einthoven.data.formats.pulse import is_calibration_pulse
from einthoven.errors import UserError
from einthoven.functional.leads import canonical_lead, derive_limb_leads

BEAT_SECONDS = 2.0
"""Longest median beat or calibration pulse in s. A rhythm is longer."""

_BEAT_LABEL = re.compile(r"median|average|representative|template|beat|cycle|calibration", re.IGNORECASE)

# Largest error of a limb-lead law between groups of one time, as a share of the amplitude of the leads.
_LAW_ERROR = 0.5

Lead = tuple[str, int]
"""Canonical name of a lead, and its sign."""


@dataclass(frozen=True)
class Group:
    """A group of signals with one time axis.

    Attributes
    ----------
    name : str
        For messages, such as "waveform group 2".
    label : str
        What the file calls the group.
    names : tuple of str
        Names of the signals.
    samples : int
        Number of samples of each signal.
    fs : float
        Sampling frequency in Hz.
    load : callable
        Returns the values ``(signals, samples)`` and the unit of each signal.
    start : float or None
        Time of the first sample in s, on a clock that all groups of the file share; None if the file does not state it.
    is_derived : bool
        Whether the file says that the group is computed from other waveforms.
    """

    name: str
    label: str
    names: tuple[str, ...]
    samples: int
    fs: float
    load: Callable[[], tuple[NDArray[np.floating], tuple[str, ...]]]
    start: float | None = None
    is_derived: bool = False

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples / self.fs if self.fs > 0 else 0.0

    @cached_property
    def leads(self) -> dict[Lead, int]:
        """The leads of the group, and the row of each."""
        leads: dict[Lead, int] = {}
        for row, name in enumerate(self.names):
            lead = canonical_lead(name)
            if lead is not None:
                leads.setdefault(lead, row)
        return leads

    @property
    def is_beat(self) -> bool:
        """Whether the label says that the group is a median beat or a calibration pulse."""
        return _BEAT_LABEL.search(self.label) is not None

    def describe(self) -> str:
        """Return name, label, number of leads and duration, for a note or a message."""
        label = f" {quote(self.label)}" if self.label else ""
        plural = "" if len(self.leads) == 1 else "s"
        return f"{self.name}{label} ({len(self.leads)} lead{plural}, {self.seconds:.4g} s)"


def join_groups(groups: Sequence[Group], source: str) -> FileSignals:
    """Join the groups that are the rhythm, on their time axis.

    Parameters
    ----------
    groups : sequence of Group
    source : str
        Name of the file, for messages.

    Returns
    -------
    FileSignals
        NaN where no group recorded a lead. The cautions say which groups were joined and which were left out.

    Raises
    ------
    UserError
        If the file contains no rhythm; if several groups have the same leads at the same time, or do not state their
        time; if groups differ in sampling frequency.
    """
    recorded = [group for group in groups if not group.is_derived]
    if len(groups) == 1 and recorded and not (groups[0].is_beat and groups[0].seconds <= BEAT_SECONDS):
        values, units = groups[0].load()
        return FileSignals(values, groups[0].names, units, groups[0].fs)

    if recorded and not any(group.leads for group in recorded):
        values, units = recorded[0].load()
        return FileSignals(values, recorded[0].names, units, recorded[0].fs)

    rhythm = _without_beats(_with_starts(recorded))
    if not rhythm:
        content = ", ".join(group.describe() for group in groups) or "nothing"
        raise UserError(f"{source}: {content} found, without a recorded waveform; expected a 12-lead ECG.")
    chosen, strips = _choose(rhythm, source)
    rates = sorted({group.fs for group in chosen})
    if len(rates) > 1:
        listed = " and ".join(f"{rate:g}" for rate in rates)
        raise UserError(f"{source}: waveform groups at {listed} Hz; expected one sampling frequency.")

    names = {group.name for group in (*chosen, *strips)}
    left_out = [group.describe() for group in groups if group.name not in names]
    cautions = (f"left out {', '.join(left_out)}",) if left_out else ()
    if len(chosen) == 1 and not strips:
        values, units = chosen[0].load()
        notes = (f"read {chosen[0].describe()}",)
        return FileSignals(values, chosen[0].names, units, chosen[0].fs, notes, cautions)
    joined = _paint(chosen, strips, source)
    parts = ", ".join(f"{group.describe()} from {group.start or 0:g} s" for group in (*chosen, *strips))
    return replace(joined, cautions=(f"joined {parts}", *cautions))


def _without_beats(groups: list[Group]) -> list[Group]:
    """Return the groups that can be the rhythm: they have leads, and are no beat or pulse beside a longer group."""
    with_leads = [group for group in groups if group.leads]
    longest = max((group.seconds for group in with_leads), default=0.0)
    rhythm = []
    for group in with_leads:
        is_short = group.seconds <= BEAT_SECONDS
        if is_short and longest > BEAT_SECONDS and not _continues(group, with_leads):
            continue
        if is_short and group.is_beat:
            continue
        rhythm.append(group)
    return rhythm


def _continues(group: Group, groups: list[Group]) -> bool:
    """Return whether a short group is a part of a recording: a group of the same leads comes right before or after it.

    A calibration pulse can be there, too.
    """
    if group.start is None:
        return False
    for other in groups:
        if other is group or other.leads.keys() != group.leads.keys() or other.start is None:
            continue
        is_after = abs(other.start + other.seconds - group.start) <= _tolerance(group)
        is_before = abs(group.start + group.seconds - other.start) <= _tolerance(group)
        if is_after or is_before:
            values, units = group.load()
            scales = [millivolts(units[row], group.name, lead) for (lead, _), row in group.leads.items()]
            rows = values[list(group.leads.values())] * np.array(scales)[:, None]
            return not is_calibration_pulse(rows, group.fs)
    return False


def _with_starts(groups: list[Group]) -> list[Group]:
    """If some groups state a start, let the others start at 0."""
    if all(group.start is None for group in groups):
        return groups
    return [group if group.start is not None else replace(group, start=0.0) for group in groups]


def _choose(groups: list[Group], source: str) -> tuple[list[Group], list[Group]]:
    """Choose the groups that make the time axis, and those that only fill what these did not record.

    Groups with many leads come first, then long groups. The starts of the result count from the first chosen group.
    """
    order = sorted(groups, key=lambda group: (group.is_beat, -len(group.leads), -group.seconds))
    chosen: list[Group] = []
    strips: list[Group] = []
    for group in order:
        rivals = [other for other in chosen if other.leads.keys() & group.leads.keys()]
        same_leads = [other for other in rivals if other.leads.keys() == group.leads.keys()]
        covered = {lead for other in chosen for lead in other.leads}
        if not rivals or (group.leads.keys() - covered and not group.is_beat):
            chosen.append(group)
        elif group.is_beat:
            continue
        elif same_leads:
            overlapping = [other for other in same_leads if _overlap(group, other)]
            if overlapping:
                raise UserError(_same_leads_message(overlapping[0], group, source))
            chosen.append(group)
        elif group.fs == chosen[0].fs and group.start is not None:
            strips.append(group)
    first = min(group.start or 0.0 for group in chosen)

    def shift(part: list[Group]) -> list[Group]:
        return [replace(group, start=(group.start or 0.0) - first) for group in part]

    return sorted(shift(chosen), key=lambda group: group.start or 0.0), shift(strips)


def _overlap(a: Group, b: Group) -> bool:
    """Return whether two groups share time. Groups that do not state their start may."""
    if a.start is None or b.start is None:
        return True
    first, second = sorted((a, b), key=lambda group: group.start or 0.0)
    return (first.start or 0.0) + first.seconds > (second.start or 0.0) + _tolerance(a)


def _tolerance(group: Group) -> float:
    """Return how exact a start is, in s: files state it in ms, and between two samples."""
    return 1e-3 + 1.0 / max(group.fs, 1.0)


def _same_leads_message(a: Group, b: Group, source: str) -> str:
    time = "do not state when they start" if a.start is None or b.start is None else "overlap in time"
    return (
        f"{source}: {a.describe()} and {b.describe()} have the same leads and {time}; expected one rhythm, or groups "
        "that follow one another."
    )


def _paint(chosen: list[Group], strips: list[Group], source: str) -> FileSignals:
    """Write the leads of all groups into one array in mV, each at its time."""
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
    return FileSignals(values, names, ("mV",) * len(names), fs)


def _offsets(chosen: list[Group]) -> list[int]:
    """Return the first sample of each group. A group that starts about where another ends, starts exactly there."""
    ends: list[int] = []
    offsets = []
    for group in chosen:
        offset = round((group.start or 0.0) * group.fs)
        limit = _tolerance(group) * group.fs
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
        if error > _LAW_ERROR * max(np.std(actual[is_known]), np.std(expected[is_known])):
            at = int(np.argmax(is_known))
            first = groups[origin[rows["I"], at]].name
            second = groups[origin[rows[lead], at]].name
            raise UserError(
                f"{source}: lead {lead} of {second} contradicts I and II of {first}, so that they are not of the same "
                "time; expected groups that state when they start."
            )
