"""Split the text of a table into names, units and numbers.

The separator is a semicolon, a tab, a comma, a vertical bar or blanks. Numbers may have decimal commas, unless the
separator is a comma. What could be read in two ways is refused: digits behind a decimal comma that look like a column,
and marks between thousands.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.table_numbers import (
    BLANK,
    CLOCK,
    parse_numbers,
    split_fields,
    split_lines,
    with_decimal_points,
)
from einthoven.errors import UserError
from einthoven.functional.leads import canonical_lead

MOST_TEXT = 2**28
"""Largest size of a table in bytes."""

_SEPARATORS = (";", "\t", ",", "|", BLANK)
_SAMPLE_LINES = 20

# Number of bytes that show whether a text is UTF-16.
_UTF_16_BYTES = 32

_NUMBER = re.compile(r"[-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?|nan|[-+]?inf|-?", re.IGNORECASE)

# Empty lines and comments before a table.
_COMMENTS = re.compile(r"(?:[ \t\r]*\n|[#%][^\n]*(?:\n|\Z))*+")

# The line with which a spreadsheet program learns the separator.
_SEPARATOR_LINE = re.compile(r"\"?sep=.\"?[ \t\r]*\n", re.IGNORECASE)

# Characters that binary data contain and texts do not. An escape at the end of a text is no reason to refuse it.
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f\ufffd]")
_MOST_CONTROL_CHARACTERS = 0.02
_SAMPLE_CHARACTERS = 2**16

# The texts of a unit row for a column of times such as 0:00.002, which are read in seconds.
_CLOCK_UNITS = ("hh:mm:ss.mmm", "elapsed time")


@dataclass(frozen=True)
class TableText:
    """The content of a table.

    Attributes
    ----------
    values : ndarray of float64, shape (columns, T)
        Empty fields, ``nan`` and ``-`` are NaN.
    names : tuple of str or None
        None if the table has no header row, or only numbers in it.
    units : tuple of str or None
        The second row, if it has the units of the columns.
    notes : tuple of str
    """

    values: NDArray[np.float64]
    names: tuple[str, ...] | None
    units: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


def decode_text(data: bytes) -> str:
    """Return the text of a file in UTF-8, in UTF-16, or else in Latin-1."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    # UTF-16 without its mark: in a header of a table, every other byte is zero.
    start = data[:_UTF_16_BYTES]
    if len(start) > 1 and not any(start[1::2]):
        return data.decode("utf-16-le", errors="replace")
    if len(start) > 1 and not any(start[::2]):
        return data.decode("utf-16-be", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def parse_table(text: str, source: str) -> TableText:
    """Split a table into names, units and numbers. Lines before it that start with ``#`` or ``%`` are comments.

    Parameters
    ----------
    text : str
    source : str
        Name of the file, for messages.

    Raises
    ------
    UserError
        If the text is not a table of numbers, or could be read in two ways.
    """
    _refuse_binary(text, source)
    if "\n" not in text:
        text = text.replace("\r", "\n")
    # Programs of some languages write the minus sign of typography.
    text = text.replace("\N{MINUS SIGN}", "-")
    comments, text = _skip_comments(text)
    first_line = 1 + comments.count("\n")
    if not text.strip():
        raise UserError(f"{source}: empty; expected a table of one column per lead.")
    separator = _choose_separator(text)

    # The first line is a header if its fields are not numbers. The second line can contain units.
    line, body = _next_line(text)
    header = _split_header(line, separator, source)
    names: tuple[str, ...] | None = None
    units: tuple[str, ...] | None = None
    is_row = _is_row(header)
    names_in_comment = _names_in_comment(comments, separator, len(header), source) if is_row else None
    if names_in_comment:
        names = names_in_comment
        body = text
    elif not is_row:
        names = header
        line, rest = _next_line(body)
        second = _split_header(line, separator, source)
        if len(second) == len(header) and not any(field and _is_number(field) for field in second) and any(second):
            units = second
            body = rest
    elif _counts_columns(header, body, separator):
        names = header
    else:
        body = text
    skipped_lines = text.count("\n", 0, len(text) - len(body))

    body = with_decimal_points(body, separator, source)
    clock_columns = () if names is None else tuple(k for k, name in enumerate(names) if is_clock(name))
    values = parse_numbers(body, separator, source, first_line + skipped_lines, clock_columns)
    if names is None or not values.size:
        return TableText(values, names, units)
    if len(values) != len(names):
        raise UserError(
            f"{source}: {len(values)} columns of numbers under {len(names)} names found; expected one each."
        )
    return _drop_row_numbers(TableText(values, names, units))


def is_clock(name: str) -> bool:
    """Decide whether the times of a column can be written as 0:00.002 or 00:00:00.002."""
    return name.lower() in ("elapsed time", "time", "t")


def is_clock_unit(unit: str) -> bool:
    """Decide whether the text of a unit row means times such as 0:00.002, which become seconds."""
    return unit.lower() in _CLOCK_UNITS


def _refuse_binary(text: str, source: str) -> None:
    """Refuse a file that is not text, such as a picture with the suffix of a table."""
    sample = text[:_SAMPLE_CHARACTERS]
    if len(_CONTROL_CHARACTERS.findall(sample)) > _MOST_CONTROL_CHARACTERS * len(sample):
        raise UserError(f"{source}: binary data found; expected a text file, such as a CSV with one column per lead.")


def _skip_comments(text: str) -> tuple[str, str]:
    """Return the comments and empty lines at the start of a text, and the text behind them."""
    separator_line = _SEPARATOR_LINE.match(text)
    match = _COMMENTS.match(text, separator_line.end() if separator_line else 0)
    end = match.end() if match else 0
    return text[:end], text[end:]


def _names_in_comment(comments: str, separator: str, columns: int, source: str) -> tuple[str, ...] | None:
    """Return the names of the columns if the last comment has them, as `numpy.savetxt` writes its header."""
    lines = comments.strip().splitlines()
    if not lines or lines[-1][:1] not in ("#", "%"):
        return None
    names = _split_header(lines[-1].lstrip("#% \t"), separator, source)
    leads = sum(canonical_lead(name) is not None for name in names)
    return names if len(names) == columns and 2 * leads > columns else None


def _is_row(fields: tuple[str, ...]) -> bool:
    """Decide whether the first line of a table is a row of numbers, although a field of it may be none.

    A header can contain whole numbers, because they can be the names of columns.
    """
    numbers = [field for field in fields if field and _is_number(field)]
    if len(numbers) == sum(field != "" for field in fields):
        return True
    has_amplitude = any(not number.isdigit() for number in numbers)
    return has_amplitude and 2 * len(numbers) >= len(fields)


def _next_line(text: str) -> tuple[str, str]:
    line, _, rest = text.partition("\n")
    return line, rest


def _choose_separator(text: str) -> str:
    """Return the separator that splits the first lines into equally many fields, with numbers in the last one."""
    lines = [line for line in islice(io.StringIO(text), _SAMPLE_LINES) if line.strip()]
    for separator in _SEPARATORS:
        rows = [split_fields(line, separator) for line in lines]
        # Names with blanks, such as "Lead I", make the header longer than the rows.
        counts = {len(row) for row in (rows[1:] if separator == BLANK and len(rows) > 1 else rows)}
        if counts == {1} or len(counts) > 1:
            continue
        decimal_comma = separator != ","
        if all(_is_number(field, decimal_comma=decimal_comma) or CLOCK.fullmatch(field) for field in rows[-1]):
            return separator
    # No separator fits: the one that occurs most often gives the clearest message.
    return max(",;\t", key=lines[0].count)


def _split_header(line: str, separator: str, source: str) -> tuple[str, ...]:
    fields = next(split_lines([line], separator, source), [])
    return tuple(field.strip().strip("'").strip() for field in fields)


def _is_number(field: str, *, decimal_comma: bool = True) -> bool:
    if not decimal_comma and "," in field:
        return False
    return _NUMBER.fullmatch(field) is not None


def _counts_columns(header: tuple[str, ...], body: str, separator: str) -> bool:
    """Decide whether a row of numbers only counts the columns from 0 or 1. The column of row numbers has no name.

    In a table of few columns, this can also be the first sample. Then the other rows have decimals if it is not.
    """
    names = header[1:] if header[0] == "" else header
    if len(names) < 2 or not _is_counting(names):
        return False
    marks = "." if separator == "," else ".,"
    return len(names) >= 4 or re.search(rf"\d[{marks}]\d", body[:10_000]) is not None


def _is_counting(names: tuple[str, ...]) -> bool:
    counts = [tuple(str(number) for number in range(start, start + len(names))) for start in (0, 1)]
    return names in counts


def _drop_row_numbers(table: TableText) -> TableText:
    """Leave out a column without a name that counts the rows, and names that only count the columns."""
    names = table.names
    values = table.values
    units = table.units
    notes = table.notes
    assert names is not None
    numbers = np.arange(values.shape[1])
    counts_rows = values.shape[1] > 1 and any(np.array_equal(values[0], numbers + start) for start in (0, 1))
    if names[0] in ("", "Unnamed: 0") and counts_rows:
        names = names[1:]
        values = values[1:]
        units = None if units is None else units[1:]
        notes = ("dropped the first column, which numbers the rows",)
    return TableText(values, None if _is_counting(names) else names, units, notes)
