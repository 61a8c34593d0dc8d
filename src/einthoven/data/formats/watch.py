"""Read the ECG of an Apple Watch: a CSV file with lines about the recording, and one column of numbers below them.

The words in the file depend on the language of the device. So the values identify the lines: a rate in hertz, then a
lead and a unit. Nothing else is kept, because the other lines contain the name and the birth date of the user.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from einthoven.data.formats.channels import is_unit, quote
from einthoven.data.formats.file_signals import FileSignals, Metadata, read_ordinary_file
from einthoven.data.formats.metadata import add_metadata
from einthoven.data.formats.table_text import MOST_TEXT, decode_text
from einthoven.errors import UserError
from einthoven.functional.leads import canonical_lead

# The word for hertz in the languages of the device (Unicode CLDR, frequency-hertz).
_HERTZ = "hz|her(?:tz|ts|c)\\w*|гц|герц\\w*|херц\\w*|χερτζ|赫[兹茲]?|ヘルツ|헤르츠|הרץ|هرتز|เฮิรตซ์"

_RATE = r"(\d{1,5}(?:[.,\u066b]\d{1,6})?)"

RATE_LINE = re.compile(
    rf"^[^,;\n#%][^,;\n]{{0,79}}[,;][ \t]*\"?{_RATE}[ \t\u00a0\u2009\u202f]*(?:{_HERTZ})\"?\s*$",
    re.IGNORECASE | re.MULTILINE,
)
"""A line such as "Sample Rate,512 hertz" or "Messrate,511,538 Hertz". It is no comment."""

_VALUE_LINE = re.compile(r"^[^,;]*[,;]\s*\"?([^\"]*?)\"?\s*$")
_NUMBER = re.compile(r"\"?([-+]?\d+(?:[.,\u066b]\d+)?(?:[eE][-+]?\d+)?)\"?")

# A lead beside letters of another script, such as the Chinese words for lead I.
_LEAD = re.compile(r"(?<![A-Za-z\d])(?:I{1,3}|aV[RLF]|V[1-6])(?![A-Za-z\d])")

# Russian names of units.
_CYRILLIC_UNITS = {"мкв": "uV", "мв": "mV"}


def read_watch(path: str | Path, caller: Metadata) -> FileSignals:
    """Read the lead of an export.

    Parameters
    ----------
    path : path
    caller : Metadata
        What the caller states. It has to agree with the file.

    Raises
    ------
    UserError
        If the file states no rate, lead or unit, or if a line of numbers contains something else.
    """
    source = Path(path).name
    # Programs of some languages write the minus sign of typography.
    text = decode_text(read_ordinary_file(path, MOST_TEXT)).replace("\N{MINUS SIGN}", "-")
    lines = text.splitlines()
    fs: float | None = None
    lead = ""
    unit = ""
    first = len(lines)
    for number, line in enumerate(lines):
        if _NUMBER.fullmatch(line.strip()):
            first = number
            break
        # The rate comes before lead and unit. The lines above it are about the user.
        if fs is None:
            rate_match = RATE_LINE.match(line)
            fs = _to_number(rate_match[1]) if rate_match else None
            continue
        value_match = _VALUE_LINE.match(line)
        if value_match is None and line.strip():
            raise UserError(f"{source}: {quote(line)} in line {number + 1}; expected one number.")
        value = value_match[1] if value_match else ""
        leads = _LEAD.findall(value)
        unit_text = _CYRILLIC_UNITS.get(value.lower(), value)
        if len(leads) == 1 and canonical_lead(leads[0]):
            lead = leads[0]
        elif is_unit(unit_text):
            unit = unit_text
    if fs is None or not lead or not unit:
        missing = "unit"
        if fs is None:
            missing = "rate"
        elif not lead:
            missing = "lead"
        raise UserError(
            f"{source}: no {missing} found in the lines before the numbers; expected an ECG of an Apple Watch."
        )

    # A comma can only be a decimal mark here, because there is one column.
    values = []
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line.strip():
            continue
        match = _NUMBER.fullmatch(line.strip())
        if match is None:
            raise UserError(f"{source}: {quote(line)} in line {number}; expected one number.")
        values.append(_to_number(match[1]))
    if not values:
        raise UserError(f"{source}: no samples found; expected an ECG of an Apple Watch.")
    return add_metadata(path, np.array([values]), Metadata(fs, None, (lead,)), caller, (unit,))


def _to_number(text: str) -> float:
    """Return a number that is written with a point, a comma or the decimal mark of Arabic."""
    return float(text.replace(",", ".").replace("\u066b", "."))
