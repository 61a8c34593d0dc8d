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
from einthoven.data.formats.table_text import MOST_TEXT, decode_text
from einthoven.data.formats.tabular import add_metadata
from einthoven.errors import UserError
from einthoven.functional.leads import canonical_lead

RATE_LINE = re.compile(
    r"^[^,;\n]{1,80}[,;][ \t]*\"?(\d{1,5}(?:[.,]\d{1,6})?)[ \t]*(?:hertz|hz)\"?\s*$", re.IGNORECASE | re.MULTILINE
)
"""A line such as "Sample Rate,512 hertz" or "Messrate,511,538 Hertz". No other table contains one."""

_VALUE_LINE = re.compile(r"^[^,;]*[,;]\s*\"?([^\"]*?)\"?\s*$")
_NUMBER = re.compile(r"\"?([-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?)\"?")


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
    lines = decode_text(read_ordinary_file(path, MOST_TEXT)).splitlines()
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
            fs = float(rate_match[1].replace(",", ".")) if rate_match else None
            continue
        value_match = _VALUE_LINE.match(line)
        words = value_match[1].split() if value_match else []
        if words and canonical_lead(words[-1]):
            lead = words[-1]
        elif len(words) == 1 and is_unit(words[0]):
            unit = words[0]
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
        values.append(float(match[1].replace(",", ".")))
    if not values:
        raise UserError(f"{source}: no samples found; expected an ECG of an Apple Watch.")
    return add_metadata(path, np.array([values]), Metadata(fs, None, (lead,)), caller, (unit,))
