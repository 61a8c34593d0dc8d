"""Read HL7 annotated ECG (aECG): each sequence set of each series is a group of leads."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import millivolts, quote
from einthoven.data.formats.file_signals import FileSignals
from einthoven.data.formats.group import Group
from einthoven.data.formats.groups import join_groups
from einthoven.data.formats.lead_codes import lead_of_code
from einthoven.data.formats.xml_tree import attribute, number, scale, text_of
from einthoven.errors import UserError
from einthoven.functional.leads import canonical_lead

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}

# Date and time of an HL7 time stamp, such as 20020101120000.000 or 20020101120000.5+0100.
_TIME_STAMP = re.compile(r"^(\d{14})(\.\d+)?([+-]\d{4})?$")


def read_aecg(root: Element, source: str) -> FileSignals:
    """Read the rhythm of an annotated ECG.

    Raises
    ------
    UserError
        If there is no lead with digits, if a lead is not calibrated, or if lengths or times are not usable.

    References
    ----------
    ANSI/HL7 V3 ECG R1-2004 (PORT_MT020001): value = origin + scale * digit; times are a GLIST with an increment.
    """
    groups = []
    notes: list[str] = []
    for name, is_derived, label, sequence_set in _sequence_sets(root):
        group, empty = _describe(name, is_derived, label, sequence_set, source)
        groups.append(group)
        if empty:
            notes.append(f"{name}: {' '.join(empty)} without digits")
    if not any(group.names for group in groups):
        empty_text = f" ({'; '.join(notes)})" if notes else ""
        raise UserError(f"{source}: no digits of any lead found{empty_text}; expected an annotated ECG.")
    signals = join_groups(_on_one_clock([group for group in groups if group.names]), source)
    return replace(signals, cautions=(*signals.cautions, *notes))


def _sequence_sets(root: Element) -> Iterator[tuple[str, bool, str, Element]]:
    """Iterate over name, whether the series is derived, code of the series, and the sequence set."""
    for series_number, series in enumerate(root.findall("component/series"), 1):
        derived = series.findall("derivation/derivedSeries")
        for is_derived, part in ((False, series), *((True, derived_series) for derived_series in derived)):
            label = attribute(part.find("code"), "code")
            for number_of_set, sequence_set in enumerate(part.findall("component/sequenceSet"), 1):
                kind = "derived series" if is_derived else "series"
                yield f"{kind} {series_number} set {number_of_set}", is_derived, label, sequence_set


def _describe(name: str, is_derived: bool, label: str, sequence_set: Element, source: str) -> tuple[Group, list[str]]:
    """Return the group of a sequence set, and the names of the leads without digits."""
    fs = 0.0
    start: float | None = None
    leads: dict[str, Element] = {}
    empty = []
    lengths = []
    for sequence in sequence_set.findall("component/sequence"):
        code = attribute(sequence.find("code"), "code")
        value = sequence.find("value")
        if code.upper().startswith("TIME_"):
            if not fs:
                fs, start = _read_time(value, code, source)
            continue
        lead = lead_of_code(code) or (code if canonical_lead(code) else None)
        if lead is None or value is None:
            continue
        length = text_of(value.find("digits")).count(" ") + 1 if text_of(value.find("digits")) else 0
        if not length:
            empty.append(lead)
            continue
        if lead in leads:
            raise UserError(f"{source}: lead {lead} is named twice in {name}; expected each lead once.")
        leads[lead] = value
        lengths.append(length)
    if leads and len(set(lengths)) > 1:
        raise UserError(f"{source}: leads of {sorted(set(lengths))} samples in {name}; expected one length.")
    if leads and not fs:
        raise UserError(f"{source}: {name} has no time increment; expected one.")
    load = partial(_read_leads, tuple(leads.items()), source)
    return Group(name, label, tuple(leads), lengths[0] if lengths else 0, fs, load, start, is_derived), empty


def _read_time(value: Element | None, code: str, source: str) -> tuple[float, float | None]:
    """Return the sampling frequency, and the start in s: since 1970, or in a relative time."""
    if value is None:
        return 0.0, None
    increment = value.find("increment")
    step = number(attribute(increment, "value"), "time increment", source)
    unit = attribute(increment, "unit")
    if unit not in _SECONDS or step <= 0:
        raise UserError(f"{source}: a time increment of {step:g} {unit!r}; expected one above 0 in s, ms or us.")
    fs = 1.0 / (step * _SECONDS[unit])

    # 0.002 s is 500 Hz, although 1 / 0.002 may differ from it by rounding.
    fs = float(round(fs)) if abs(fs - round(fs)) <= 1e-9 * fs else fs
    head = value.find("head")
    text = attribute(head, "value")
    if code.upper() == "TIME_ABSOLUTE":
        return fs, _seconds_since_1970(text)
    unit = attribute(head, "unit") or unit
    try:
        start = float(text) * _SECONDS[unit]
    except (ValueError, KeyError):
        return fs, None
    return fs, start if math.isfinite(start) else None


def _seconds_since_1970(text: str) -> float | None:
    match = _TIME_STAMP.match(text)
    if match is None:
        return None
    zone = match[3] or "+0000"
    try:
        whole = datetime.strptime(match[1] + zone, "%Y%m%d%H%M%S%z").timestamp()
    except ValueError:
        return None
    return whole + float(match[2] or 0)


def _on_one_clock(groups: list[Group]) -> list[Group]:
    """Count the starts from the first group. If only some are absolute, keep the kind of the longest group."""
    longest = max(groups, key=lambda group: group.seconds)
    is_absolute = _is_absolute(longest.start)
    starts = [group.start if _is_absolute(group.start) == is_absolute else None for group in groups]
    first = min((start for start in starts if start is not None), default=0.0)
    pairs = zip(groups, starts, strict=True)
    return [replace(group, start=None if start is None else start - first) for group, start in pairs]


def _is_absolute(start: float | None) -> bool:
    """Return whether a start counts from 1970, and not from the begin of the recording."""
    return start is not None and start > 1e7


def _read_leads(leads: tuple[tuple[str, Element], ...], source: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the values of the leads in mV, and their unit."""
    rows = []
    for lead, value in leads:
        try:
            digits = np.array(text_of(value.find("digits")).split(" "), dtype=np.float64)
        except ValueError:
            raise UserError(f"{source}: invalid digits of lead {lead}; expected numbers.") from None
        rows.append(_scale(value, lead, source) * digits + _offset(value, lead, source))
    return np.stack(rows), ("mV",) * len(rows)


def _scale(value: Element, lead: str, source: str) -> float:
    """Return the size of a digit in mV."""
    element = value.find("scale")
    unit = attribute(element, "unit")
    if not unit:
        raise UserError(f"{source}: no voltage unit for lead {quote(lead)}; expected one, such as uV.")
    return scale(attribute(element, "value"), f"scale of lead {lead}", source) * millivolts(unit, source, lead)


def _offset(value: Element, lead: str, source: str) -> float:
    """Return the voltage of digit 0 in mV. An origin without a unit has that of the scale."""
    origin = value.find("origin")
    text = attribute(origin, "value")
    if not text:
        return 0.0
    offset = number(text, f"origin of lead {lead}", source)
    unit = attribute(origin, "unit") or attribute(value.find("scale"), "unit")
    return offset * millivolts(unit, source, lead) if offset else 0.0
