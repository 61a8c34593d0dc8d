"""Read XML exports of electrocardiographs with the ecgdatakit package: HL7 aECG, Philips, GE MUSE, Mortara."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np

from einthoven.data.formats.file_signals import FileSignals, read_ordinary_file
from einthoven.errors import UserError
from einthoven.files import reason

MOST_BYTES = 2**26
"""Largest size of an XML file."""

_PARSERS = ("HL7aECGParser", "SierraXMLParser", "GEMuseXMLParser", "MortaraEL250Parser")


def read_xml(path: str | Path) -> FileSignals:
    """Read the rhythm waveform of an XML export.

    Raises
    ------
    UserError
        If the file has none of these formats or is damaged; if a lead is not calibrated, or differs in length or
        sampling frequency.
    """
    from ecgdatakit import ChecksumWarning, FileParser

    # The package opens the file itself. This first read only checks that it is an ordinary file of limited size.
    source = Path(path).name
    read_ordinary_file(path, MOST_BYTES)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            kind = FileParser.detect_format(path)
            if kind is None or kind["parser"] not in _PARSERS:
                raise UserError(
                    f"{source}: not an ECG in XML; expected HL7 aECG, Philips (restingecgdata), GE MUSE (RestingECG) "
                    "or Mortara ELI."
                )
            record = FileParser.parse(path, units="mV")
    except UserError:
        raise
    # The package and the parsers that it uses raise many kinds of exceptions. The user needs the name of the file.
    except Exception as error:
        message = reason(error).replace(str(path), source)
        raise UserError(f"{source}: the ecgdatakit package cannot read this file ({message}).") from None
    for warning in caught:
        if issubclass(warning.category, ChecksumWarning):
            raise UserError(f"{source}: damaged: {warning.message}.")

    uncalibrated = [lead.label for lead in record.leads if lead.is_raw or lead.units != "mV"]
    if uncalibrated:
        raise UserError(f"{source}: no voltage unit for lead {', '.join(uncalibrated)}; expected one, such as uV.")
    lengths = {len(lead.samples) for lead in record.leads}
    rates = {lead.sampling_rate for lead in record.leads}
    if len(lengths) > 1 or len(rates) > 1:
        raise UserError(f"{source}: leads of {sorted(lengths)} samples at {sorted(rates)} Hz; expected one of each.")

    # The leads state a rounded sampling frequency. A repeated lead II is named II_2.
    fs = record.raw_metadata.get("rhythm_time", {}).get("sampling_rate_exact") or rates.pop()
    names = tuple(re.sub(r"_\d+$", "", lead.label) for lead in record.leads)
    values = np.stack([lead.samples for lead in record.leads])
    notes = tuple(str(warning.message).replace(str(path), source) for warning in caught)
    return FileSignals(values, names, ("mV",) * len(names), float(fs), notes)
