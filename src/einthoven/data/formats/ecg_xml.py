"""Read XML exports of electrocardiographs: HL7 aECG, GE MUSE, Philips, Mortara ELI."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.aecg import read_aecg
from einthoven.data.formats.channels import millivolts
from einthoven.data.formats.file_signals import FileSignals
from einthoven.data.formats.muse import read_muse
from einthoven.data.formats.patient import of_aecg, of_mortara, of_muse, of_philips
from einthoven.data.formats.philips import read_philips
from einthoven.data.formats.xml_tree import attribute, number, read_xml_tree
from einthoven.errors import UserError
from einthoven.files import reason

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from ecgdatakit import ECGRecord


def read_xml(path: str | Path) -> FileSignals:
    """Read the rhythm waveform of an XML export. The root element says the format.

    Raises
    ------
    UserError
        If the file has none of these formats or is damaged; if a lead is not calibrated, or differs in length or
        sampling frequency.
    """
    source = Path(path).name
    root = read_xml_tree(path)
    kind = root.tag.lower()
    if kind == "annotatedecg":
        return replace(read_aecg(root, source), comments=of_aecg(root))
    if kind == "restingecg":
        return replace(read_muse(root, source), comments=of_muse(root))
    if kind == "restingecgdata":
        return replace(read_philips(root, source), comments=of_philips(root))
    if kind == "ecg" and root.find("CHANNEL") is not None:
        return replace(_read_mortara(path, root, source), comments=of_mortara(root))
    raise UserError(
        f"{source}: not an ECG in XML that can be read (root element {root.tag[:40]!r}); expected HL7 aECG, Philips "
        "(restingecgdata), GE MUSE (RestingECG) or Mortara ELI."
    )


def _read_mortara(path: str | Path, root: Element, source: str) -> FileSignals:
    """Read a Mortara export. The offset of a channel is added to its counts, as BRAVEHEART does (load_elixml.m)."""
    channels = root.findall("CHANNEL")
    rates = {number(attribute(channel, "SAMPLE_FREQ"), "SAMPLE_FREQ", source) for channel in channels}
    if len(rates) > 1:
        raise UserError(f"{source}: channels at {sorted(rates)} Hz; expected one sampling frequency.")
    record, notes = _parse_mortara(path, source)
    values, names = _leads_of(record, source)

    offsets = []
    for row, channel in zip(values, channels, strict=True):
        name = attribute(channel, "NAME")
        offset = number(attribute(channel, "OFFSET") or "0", f"OFFSET of {name}", source)
        if offset:
            row += offset / number(attribute(channel, "UNITS_PER_MV"), f"UNITS_PER_MV of {name}", source)
            offsets.append(f"{name} {offset:g}")
    # The package warns that it does not apply the offsets.
    cautions: tuple[str, ...] = ()
    if offsets:
        notes = tuple(note for note in notes if "OFFSET" not in note)
        cautions = (f"added OFFSET: {', '.join(offsets)}",)
    return FileSignals(values, names, ("mV",) * len(names), rates.pop(), notes, cautions)


def _parse_mortara(path: str | Path, source: str) -> tuple[ECGRecord, tuple[str, ...]]:
    """Parse a file with the ecgdatakit package. Its warnings become notes, except for a wrong checksum."""
    from ecgdatakit import ChecksumWarning, FileParser

    parsers = {parser.__name__: parser for parser in FileParser().parsers}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            record = parsers["MortaraEL250Parser"]().parse(Path(path))
    # The package and the parsers that it uses raise many kinds of exceptions. The user needs the name of the file.
    except Exception as error:
        message = reason(error).replace(str(path), source)
        raise UserError(f"{source}: the ecgdatakit package cannot read this file ({message}).") from None
    for warning in caught:
        if issubclass(warning.category, ChecksumWarning):
            raise UserError(f"{source}: damaged: {warning.message}.")
    return record, tuple(str(warning.message).replace(str(path), source) for warning in caught)


def _leads_of(record: ECGRecord, source: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the leads in mV, and their names."""
    uncalibrated = [lead.label for lead in record.leads if not lead.resolution_unit]
    if uncalibrated:
        raise UserError(f"{source}: no voltage unit for lead {', '.join(uncalibrated)}; expected one, such as uV.")
    lengths = {len(lead.samples) for lead in record.leads}
    if len(lengths) > 1:
        raise UserError(f"{source}: leads of {sorted(lengths)} samples; expected one length.")
    rows = []
    for lead in record.leads:
        physical = lead.samples * lead.resolution + lead.offset
        rows.append(physical * millivolts(lead.resolution_unit, source, lead.label))

    # A repeated lead II is named II_2.
    names = tuple(re.sub(r"_\d+$", "", lead.label) for lead in record.leads)
    return np.stack(rows), names
