"""Split the rows of a text table into fields, and read them as numbers."""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import quote
from einthoven.errors import UserError
from einthoven.files import reason

BLANK = " "
"""The separator that stands for any number of blanks."""

# Elapsed time such as 0:00.002 or 1:02:03.5.
CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,4}):(\d{1,2}(?:\.\d+)?)")

# The two sides of a decimal comma as columns: a number with leading zeros, such as 010, or digits behind -0.
_SPLIT_DECIMALS = re.compile(r"(?:^|,)[ \"]*(?:[-+]?0\d+|-0,\d\d+)[ \"]*(?=,|$)", re.MULTILINE)


def split_lines(lines: Iterable[str], separator: str, source: str) -> Iterator[list[str]]:
    """Yield the fields of each line, as a CSV file quotes them."""
    if separator == BLANK:
        yield from (line.split() for line in lines)
        return
    try:
        yield from csv.reader(lines, delimiter=separator)
    except csv.Error as error:
        # Python's own sentence for a carriage return within a line is advice to programmers.
        is_line_end = "new-line character" in str(error)
        problem = "a line with a carriage return inside it" if is_line_end else reason(error)
        raise UserError(f"{source}: not a table ({problem}); expected a table of one column per lead.") from None


def split_fields(line: str, separator: str) -> list[str]:
    """Return the fields of a line without blanks and quotation marks around them."""
    fields = line.split() if separator == BLANK else line.rstrip("\r\n").split(separator)
    return [field.strip().strip("'\"") for field in fields]


def with_decimal_points(body: str, separator: str, source: str) -> str:
    """Return the rows with decimal points instead of decimal commas.

    Raises
    ------
    UserError
        If the numbers could be read in two ways.
    """
    if separator == ",":
        if match := _SPLIT_DECIMALS.search(body):
            raise UserError(
                f"{source}: {quote(match[0].strip(','))} between commas looks like the digits behind a decimal comma; "
                "expected semicolons, tabs or blanks between the columns, or decimal points."
            )
        mark = "."
    elif "," not in body:
        mark = "."
    elif "." in body and not CLOCK.search(body[:1000]):
        raise UserError(f"{source}: numbers with points and with commas found; expected one decimal mark.")
    else:
        mark = ","
    if mark in body:
        _refuse_thousands(body, separator, mark, source)
    return body.replace(",", ".") if mark == "," else body


def _refuse_thousands(body: str, separator: str, mark: str, source: str) -> None:
    """Refuse a column in which a mark can only stand between thousands, such as 1.234 beside 56.

    A number that cannot be grouped, such as 0.5 or 1.23, shows that the mark is a decimal mark.
    """
    m = re.escape(mark)
    if re.search(rf"(?<![\d{m}])(?:0\d*|\d{{4,}})?{m}\d|{m}\d{{0,2}}(?!\d)|{m}\d{{4}}|{m}\d+[eE]", body):
        return
    has_groups: set[int] = set()
    has_others: set[int] = set()
    for line in io.StringIO(body):
        for column, field in enumerate(split_fields(line, separator)):
            if mark in field:
                has_groups.add(column)
            elif field.isdigit() or field[1:].isdigit():
                has_others.add(column)
        if has_groups & has_others:
            raise UserError(
                f"{source}: numbers such as 1{mark}234 beside whole numbers found, so that {quote(mark)} can stand "
                "between thousands; expected numbers without marks between thousands."
            )


def parse_numbers(
    text: str, separator: str, source: str, first_line: int, clock_columns: tuple[int, ...]
) -> NDArray[np.float64]:
    """Parse the rows of numbers, (columns, T).

    `first_line` is the number of the first line of `text` in the file, for messages. Columns of times such as 0:00.002
    become seconds.
    """
    # An array needs eight bytes for a number, and a list four times as many.
    numbers = array("d")
    columns = 0
    for line, fields in enumerate(split_lines(io.StringIO(text), separator, source), start=first_line):
        if not fields:
            continue
        columns = columns or len(fields)
        if len(fields) != columns:
            raise UserError(
                f"{source}: {len(fields)} fields in line {line}; expected {columns}, as in the lines before."
            )
        for column in clock_columns:
            if column < len(fields):
                fields[column] = _clock_in_seconds(fields[column])
        # Most lines contain numbers only. Lines with empty fields or mistakes take the slower function.
        try:
            row = [float(field) for field in fields]
        except ValueError:
            row = [_parse_number(field, source, line) for field in fields]
        numbers.extend(row)
    if not numbers:
        raise UserError(f"{source}: no samples found; expected a table of one column per lead.")
    return np.array(numbers).reshape(-1, columns).T


def _parse_number(field: str, source: str, line: int) -> float:
    if field.strip() in ("", "-"):
        return np.nan
    try:
        return float(field)
    except ValueError:
        raise UserError(f"{source}: {quote(field)} in line {line}; expected a number, or nothing.") from None


def _clock_in_seconds(field: str) -> str:
    """Return a time such as 1:02:03.5 in seconds. Other fields are returned as they are."""
    match = CLOCK.fullmatch(field.strip(" '\""))
    if match is None:
        return field
    hours, minutes, seconds = match.groups()
    return repr(3600.0 * float(hours or 0) + 60.0 * float(minutes) + float(seconds))
