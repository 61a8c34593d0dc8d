"""XML exports of electrocardiographs through the ecgdatakit package: HL7 aECG, Philips, GE MUSE, Mortara."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np

from einthoven.data.formats.file_signals import FileSignals, load
from einthoven.errors import UserError
from einthoven.files import reason

MOST_BYTES = 2**26
_KINDS = ("HL7aECGParser", "SierraXMLParser", "GEMuseXMLParser", "MortaraEL250Parser")


def read_xml(path: str | Path) -> FileSignals:
    """Read the rhythm waveform of an XML export.

    Raises
    ------
    UserError
        If it is none of these kinds, or damaged, or a lead is not calibrated or differs in length or rate.
    """
    from ecgdatakit import ChecksumWarning, FileParser

    source = Path(path).name
    load(path, MOST_BYTES)  # an ordinary file of a bounded size; the package opens it again itself
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            kind = FileParser.detect_format(path)
            if kind is None or kind["parser"] not in _KINDS:
                raise UserError(
                    f"{source}: not an ECG in XML; expected HL7 aECG, Philips (restingecgdata), GE MUSE (RestingECG) "
                    "or Mortara ELI."
                )
            record = FileParser.parse(path, units="mV")
    except UserError:
        raise
    except Exception as error:  # of its own and of the parsers below it; the user needs the file's name
        said = reason(error).replace(str(path), source)
        raise UserError(f"{source}: the ecgdatakit package cannot read this file ({said}).") from None
    for warning in caught:
        if issubclass(warning.category, ChecksumWarning):
            raise UserError(f"{source}: damaged: {warning.message}.")
    raw = [lead.label for lead in record.leads if lead.is_raw or lead.units != "mV"]
    if raw:
        raise UserError(f"{source}: no voltage unit for lead {', '.join(raw)}; expected one, such as uV.")
    lengths, rates = (
        {*values} for values in zip(*((len(x.samples), x.sampling_rate) for x in record.leads), strict=True)
    )
    if len(lengths) > 1 or len(rates) > 1:
        raise UserError(f"{source}: leads of {sorted(lengths)} samples at {sorted(rates)} Hz; expected one of each.")
    fs = record.raw_metadata.get("rhythm_time", {}).get("sampling_rate_exact") or rates.pop()
    names = tuple(re.sub(r"_\d+$", "", lead.label) for lead in record.leads)  # a second II is called II_2
    notes = tuple(str(warning.message).replace(str(path), source) for warning in caught)
    return FileSignals(np.stack([lead.samples for lead in record.leads]), names, ("mV",) * len(names), float(fs), notes)
