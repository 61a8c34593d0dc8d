"""Read CSV, TSV and other tables of plain numbers: names and units in a header row, and perhaps a column of times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import MICRO_TO_U, is_same_unit, quote
from einthoven.data.formats.file_signals import FileSignals, Metadata, read_ordinary_file, whole_rate
from einthoven.data.formats.metadata import add_metadata
from einthoven.data.formats.table_text import MOST_TEXT, decode_text, is_clock_unit, parse_table
from einthoven.errors import UserError
from einthoven.functional.leads import canonical_lead

# A time column, such as "time", "t (s)" or "time_ms".
_TIME_COLUMN = re.compile(r"^(?:elapsed[\s_]+time|time|t)(?:[\s_]*[(\[]?\s*([a-zµμ]+)\s*[)\]]?)?$", re.IGNORECASE)

# Name of a unit of time -> unit, and its number in a second. "microseconds" is replaced before.
_TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), ("s", 1.0)),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), ("ms", 1e3)),
    **dict.fromkeys(("us", "usec", "usecs", "usecond", "useconds"), ("µs", 1e6)),
    **dict.fromkeys(("ns", "nsec", "nsecs", "nanosecond", "nanoseconds"), ("ns", 1e9)),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), ("min", 1 / 60)),
}

# A name with a unit, such as "V1 (mV)", "aVR [µV]", "V1 uV", "I_mV", "II/mV" or "III in mV".
_NAME_WITH_BRACKET = re.compile(r"^(.*?)\s*[(\[]\s*(.*?)\s*[)\]]$")
_NAME_WITH_UNIT = re.compile(r"^(.*?)(?:\s+in\s+|[\s_/]+)([nuµμm]v)$", re.IGNORECASE)

# What DICOM and textbooks write in brackets behind a lead, which is no unit.
_LEAD_AUTHORS = ("", "einthoven", "goldberger", "wilson")


def read_table(path: str | Path, caller: Metadata) -> FileSignals:
    """Read a table with one column per lead. The separator is a semicolon, a tab, a comma, a vertical bar or blanks.

    Empty fields and ``nan`` are invalid samples. A column ``time`` (in seconds), ``time_ms`` or ``time (us)`` gives fs.

    Raises
    ------
    UserError
        If the file is not a table of numbers; if fs, units or leads are stated nowhere, or with two values.
    """
    source = Path(path).name
    table = parse_table(decode_text(read_ordinary_file(path, MOST_TEXT)), source)
    values = table.values
    if table.names is None:
        signals = add_metadata(path, values, Metadata(), caller, ("",) * len(values))
        return replace(signals, notes=(*signals.notes, *table.notes))
    header = list(table.names)

    # The units of the columns can be in the second row, as PhysioBank ATM and rdsamp write them.
    units_row = [unit.strip("()[] ") for unit in table.units or ("",) * len(header)]

    # Take the sampling frequency from the time column, and remove that column.
    time_columns = [column for column, name in enumerate(header) if _is_time(name)]
    if len(time_columns) > 1:
        raise UserError(f"{source}: {len(time_columns)} columns of time found; expected at most one.")
    fs: float | None = None
    origin = ""
    for column in time_columns:
        fs, origin = _sampling_frequency(values[column], header[column], units_row[column], source)
        values = np.delete(values, column, axis=0)
        del header[column], units_row[column]

    names, units = _names_and_units(header, units_row, source)
    names_in_file = None if _are_default_names(names) else tuple(names)
    signals = add_metadata(path, values, Metadata(fs, None, names_in_file), caller, tuple(units), origin)
    return replace(signals, notes=(*signals.notes, *table.notes))


def _names_and_units(header: Sequence[str], units_row: Sequence[str], source: str) -> tuple[list[str], list[str]]:
    """Return names and units of columns. A unit is in the header, as in "V1 (mV)", or in the row below it.

    Columns that are no leads can have any other unit below the header.
    """
    names = []
    units = []
    for name_and_unit, unit_below in zip(header, units_row, strict=True):
        name, unit = _split_unit(name_and_unit)
        unit_in_row = unit_below if canonical_lead(name) else ""
        if unit and unit_in_row and unit_in_row != unit and not is_same_unit(unit_in_row, unit):
            raise UserError(
                f"{source}: lead {name}: unit {unit} in the header, {unit_in_row} in the row below; expected one value."
            )
        names.append(name)
        units.append(unit or unit_in_row)
    return names, units


def _is_time(name: str) -> bool:
    """Decide whether a column contains the times of the samples, in a unit that is known or not stated."""
    match = _TIME_COLUMN.match(name)
    return match is not None and (match[1] is None or _time_unit(match[1]) is not None)


def _time_unit(text: str) -> tuple[str, float] | None:
    """Return the unit of time that a text means, and its number in a second."""
    return _TIME_UNITS.get(text.lower().replace("micro", "u").translate(MICRO_TO_U))


def _split_unit(name: str) -> tuple[str, str]:
    """Return the name of a column and its unit, which is empty if there is none.

    The bracket behind a lead is always a unit. So an unknown one, such as (counts) or (0.1 mV), is refused later.
    """
    in_bracket = _NAME_WITH_BRACKET.match(name)
    if in_bracket and in_bracket[2].lower() not in _LEAD_AUTHORS:
        is_lead = canonical_lead(in_bracket[1]) is not None
        if is_lead or re.fullmatch(r"\w*v(?:olt)?", in_bracket[2], re.IGNORECASE):
            return in_bracket[1], in_bracket[2]
    behind_name = _NAME_WITH_UNIT.match(name)
    if behind_name and canonical_lead(behind_name[1]):
        return behind_name[1], behind_name[2]
    return name, ""


def _are_default_names(names: list[str]) -> bool:
    """Decide whether columns have the names that R gives them: V1, V2, … and more of them than there are V leads."""
    return len(names) > 6 and names == [f"V{number}" for number in range(1, len(names) + 1)]


def _sampling_frequency(times: NDArray[np.float64], name: str, unit_in_row: str, source: str) -> tuple[float, str]:
    """Compute the sampling frequency in Hz from a time column, and return it with a description of the column.

    The times may be rounded. They have to rise in even steps. Without a unit in the name of the column or in the row of
    units, they are in seconds.
    """
    match = _TIME_COLUMN.match(name)
    stated_unit = (match and match[1]) or unit_in_row
    if not stated_unit or is_clock_unit(stated_unit):
        stated_unit = "s"
    unit_and_number = _time_unit(stated_unit)
    if unit_and_number is None:
        raise UserError(
            f"{source}: unknown unit {quote(stated_unit)} of the column {quote(name)}; expected s, ms, us, ns or min."
        )
    unit, per_second = unit_and_number
    if times.size < 2:
        raise UserError(f"{source}: {times.size} times in column {quote(name)}; expected at least two.")

    # A NaN makes these comparisons false, so that it is refused, too.
    mean_step = (times[-1] - times[0]) / (times.size - 1)
    steps = np.diff(times)
    is_even = mean_step > 0 and steps.min() > 0.5 * mean_step and steps.max() < 1.5 * mean_step
    if not is_even:
        raise UserError(
            f"{source}: times in column {quote(name)} are {steps.min():g} to {steps.max():g} {unit} apart; "
            "expected even steps, upwards."
        )

    # Times are written with few digits. A frequency that is almost a whole number becomes that number.
    fs = whole_rate(float(per_second / mean_step))
    return fs, f"column {quote(name)}, in {unit}"
