"""Choose and join the waveform groups of a file: multiplex groups of DICOM, sequence sets of aECG, waveforms of MUSE.

A file can contain median beats and calibration pulses beside the rhythm. The rhythm can be in several groups: one after
the other, or some leads in each group. Labels are not reliable, so that duration and leads decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from einthoven.data.formats.channels import millivolts
from einthoven.data.formats.file_signals import FileSignals
from einthoven.data.formats.group import Group
from einthoven.data.formats.pulse import is_calibration_pulse
from einthoven.data.formats.time_axis import place_groups
from einthoven.errors import UserError

BEAT_SECONDS = 2.0
"""Longest median beat or calibration pulse in s. A rhythm is longer."""

MOST_GROUPS = 1000
"""Largest number of groups of a file. Each group is compared with the others."""


def join_groups(groups: Sequence[Group], source: str, *, has_times: bool = True) -> FileSignals:
    """Join the groups that are the rhythm, on their time axis.

    Parameters
    ----------
    groups : sequence of Group
    source : str
        Name of the file, for messages.
    has_times : bool
        Whether groups of the format can state when they start. If not, a group is left out if a longer one has the
        same leads. Of equally long ones, the first that is not flat is used.

    Returns
    -------
    FileSignals
        NaN where no group recorded a lead. The cautions say which groups were joined and which were left out.

    Raises
    ------
    UserError
        If the file contains no rhythm, or more than `MOST_GROUPS` groups; if several groups have the same leads at the
        same time, or do not state their time; if groups differ in sampling frequency.
    """
    if len(groups) > MOST_GROUPS:
        raise UserError(f"{source}: {len(groups):,} waveform groups found; expected at most {MOST_GROUPS:,}.")
    recorded = [group for group in groups if not group.is_derived]
    if len(groups) == 1 and recorded and not (groups[0].is_beat and groups[0].seconds <= BEAT_SECONDS):
        values, units = groups[0].load()
        return FileSignals(values, groups[0].names, units, groups[0].fs, cautions=_beat_label(groups[0]))

    if recorded and not any(group.leads for group in recorded):
        values, units = recorded[0].load()
        return FileSignals(values, recorded[0].names, units, recorded[0].fs)

    rhythm = _without_beats(_with_starts(recorded))
    if not rhythm:
        content = ", ".join(group.describe() for group in groups) or "nothing"
        expected = "a 12-lead ECG"
        if any(group.is_beat for group in recorded):
            expected = "the rhythm, because a median beat or a calibration pulse is not enough"
        raise UserError(f"{source}: {content} found, without a recorded waveform; expected {expected}.")
    chosen, strips = _choose(rhythm, source, has_times=has_times)
    rates = sorted({group.fs for group in chosen})
    if len(rates) > 1:
        listed = " and ".join(f"{rate:g}" for rate in rates)
        raise UserError(f"{source}: waveform groups at {listed} Hz; expected one sampling frequency.")

    if len(chosen) == 1 and not strips:
        values, units = chosen[0].load()
        notes = (f"read {chosen[0].describe()}",)
        return FileSignals(values, chosen[0].names, units, chosen[0].fs, notes, _left_out(groups, chosen))
    joined, used = place_groups(chosen, strips, source)
    parts = ", ".join(f"{group.describe()} from {group.start or 0:g} s" for group in used)
    action = "joined" if len(used) > 1 else "read"
    return replace(joined, cautions=(f"{action} {parts}", *_left_out(groups, used)))


def _beat_label(group: Group) -> tuple[str, ...]:
    """Return the caution about the only group of a file that is too long for a beat, but is labelled as one."""
    if not group.is_beat:
        return ()
    return (f"read {group.describe()}, although its label is that of a beat or a calibration pulse",)


def _left_out(groups: Sequence[Group], used: Sequence[Group]) -> tuple[str, ...]:
    """Return the caution about the groups that are not used, if there are some."""
    names = {group.name for group in used}
    others = [group.describe() for group in groups if group.name not in names]
    return (f"left out {', '.join(others)}",) if others else ()


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
        is_after = abs(other.start + other.seconds - group.start) <= group.tolerance
        is_before = abs(group.start + group.seconds - other.start) <= group.tolerance
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


def _choose(groups: list[Group], source: str, *, has_times: bool) -> tuple[list[Group], list[Group]]:
    """Choose the groups that make the time axis, and those that only fill what these did not record.

    Groups with many leads come first, then long groups, then those that are not flat. The starts of the result count
    from the first chosen group.
    """
    order = sorted(groups, key=lambda group: (group.is_beat, -len(group.leads), -group.seconds, group.is_flat))
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
        elif same_leads and has_times:
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
    return (first.start or 0.0) + first.seconds > (second.start or 0.0) + a.tolerance


def _same_leads_message(a: Group, b: Group, source: str) -> str:
    time = "do not state when they start" if a.start is None or b.start is None else "overlap in time"
    return (
        f"{source}: {a.describe()} and {b.describe()} have the same leads and {time}; expected one rhythm, or groups "
        "that follow one another."
    )
