"""Read GE MUSE exports (RestingECG): each Waveform element is a group of leads."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import MILLIVOLT
from einthoven.data.formats.file_signals import FileSignals
from einthoven.data.formats.group import Group
from einthoven.data.formats.groups import join_groups
from einthoven.data.formats.xml_tree import number, scale, text_of
from einthoven.errors import UserError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def read_muse(root: Element, source: str) -> FileSignals:
    """Read the rhythm of a MUSE export.

    `FirstSampleBaseline` is added to the counts of a lead. `LeadOffsetFirstSample` (bytes to skip) is refused.

    Raises
    ------
    UserError
        If there is no rhythm, if a lead is damaged or not calibrated, or if leads differ in length.

    References
    ----------
    GE Healthcare, restecg.dtd. The baseline is not documented there; BRAVEHEART (load_musexml.m) adds it.
    """
    groups = [_describe(waveform, place, source) for place, waveform in enumerate(root.findall("Waveform"), 1)]
    if not groups:
        raise UserError(f"{source}: a MUSE export without a Waveform; expected one of a rhythm.")
    # The format has no usable start of a waveform: of several rhythms, one is read.
    signals = join_groups(groups, source, has_times=False)
    baselines = []
    for lead in root.iterfind("Waveform/LeadData"):
        baseline = _get(lead, "FirstSampleBaseline")
        if baseline not in ("", "0"):
            baselines.append(f"{_get(lead, 'LeadID')} {baseline}")
    notes = (f"added FirstSampleBaseline: {', '.join(dict.fromkeys(baselines))}",) if baselines else ()
    return replace(signals, cautions=(*signals.cautions, *notes))


def _describe(waveform: Element, place: int, source: str) -> Group:
    name = f"waveform {place}"
    label = _get(waveform, "WaveformType")
    base = number(_get(waveform, "SampleBase"), f"SampleBase of {name}", source)
    exponent = number(_get(waveform, "SampleExponent") or "0", f"SampleExponent of {name}", source)
    if not -12 <= exponent <= 12:
        raise UserError(f"{source}: SampleExponent {exponent:g} found; expected -12 to 12.")
    fs = base * 10.0**exponent if exponent >= 0 else base / 10.0**-exponent
    leads = waveform.findall("LeadData")
    counts = [_read_counts(lead, source) for lead in leads]
    lengths = sorted({len(row) for row in counts})
    if len(lengths) > 1:
        raise UserError(f"{source}: leads of {lengths} samples in {name}; expected one length.")
    offsets = sorted({_get(lead, "LeadTimeOffset") or "0" for lead in leads})
    if len(offsets) > 1:
        raise UserError(f"{source}: leads of {name} at the time offsets {', '.join(offsets)}; expected one.")
    names = tuple(_get(lead, "LeadID") or "unnamed" for lead in leads)
    load = partial(_to_millivolts, leads, counts, source)
    is_flat = all((row == row[:1]).all() for row in counts)
    return Group(name, label, names, lengths[0] if lengths else 0, fs, load, is_flat=is_flat)


def _read_counts(lead: Element, source: str) -> NDArray[np.integer]:
    """Return the stored integers of a lead, after comparison with the sizes and the checksum that it states."""
    name = _get(lead, "LeadID") or "without LeadID"
    data = _get(lead, "WaveFormData")
    try:
        payload = base64.b64decode(data.replace(" ", ""), validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{source}: damaged: the samples of lead {name} are not Base64.") from None
    size = int(number(_get(lead, "LeadSampleSize") or "2", f"LeadSampleSize of lead {name}", source))
    if size not in (1, 2, 4) or len(payload) % size:
        raise UserError(f"{source}: damaged: {len(payload)} bytes of lead {name} for samples of {size} bytes.")
    counts = np.frombuffer(payload, f"<i{size}")
    for tag, actual in (("LeadByteCountTotal", len(payload)), ("LeadSampleCountTotal", len(counts))):
        stated = _get(lead, tag)
        if stated and number(stated, f"{tag} of lead {name}", source) != actual:
            raise UserError(f"{source}: damaged: {tag} {stated} of lead {name}, {actual} found.")
    checksum = _get(lead, "LeadDataCRC32")
    if checksum.isdecimal() and int(checksum) != zlib.crc32(payload):
        raise UserError(f"{source}: damaged: CRC32 mismatch in lead {name}.")
    return counts


def _to_millivolts(
    leads: list[Element], counts: list[NDArray[np.integer]], source: str
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the leads in mV, and their unit."""
    rows = []
    uncalibrated = []
    for lead, row in zip(leads, counts, strict=True):
        name = _get(lead, "LeadID")
        skipped = number(_get(lead, "LeadOffsetFirstSample") or "0", f"LeadOffsetFirstSample of lead {name}", source)
        if skipped:
            raise UserError(
                f"{source}: LeadOffsetFirstSample {skipped:g} in lead {name}: bytes that are not valid; expected 0."
            )
        unit = _get(lead, "LeadAmplitudeUnits").lower().removesuffix("s")
        per_bit = _get(lead, "LeadAmplitudeUnitsPerBit")
        if unit not in MILLIVOLT or not per_bit:
            uncalibrated.append(name)
            continue
        baseline = number(_get(lead, "FirstSampleBaseline") or "0", f"FirstSampleBaseline of lead {name}", source)
        millivolt = scale(per_bit, f"LeadAmplitudeUnitsPerBit of lead {name}", source) * MILLIVOLT[unit]
        rows.append((row.astype(np.float64) + baseline) * millivolt)
    if uncalibrated:
        raise UserError(f"{source}: no voltage unit for lead {', '.join(uncalibrated)}; expected one, such as uV.")
    return np.stack(rows), ("mV",) * len(rows)


def _get(element: Element, tag: str) -> str:
    """Return the text of a child; upper and lower case of its name do not matter."""
    child = element.find(tag)
    if child is None:
        child = next((other for other in element if other.tag.lower() == tag.lower()), None)
    return text_of(child)
