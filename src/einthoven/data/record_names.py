"""How messages name a record: by its number, and by its file if the number is only a row of the user's table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

NameRecord = Callable[[int], str]

FILE_COLUMNS = ("path", "name")
"""Columns with the file of a record: of a folder, and of the records of the Challenge 2021."""


def number_only(record: int) -> str:
    """Return the number of a record as its name."""
    return str(record)


def names_in(table: pd.DataFrame, number: Literal["record_id", "ecg_id"] = "record_id") -> NameRecord:
    """Return the function that names the records of a store.

    Parameters
    ----------
    table : DataFrame
        Table of the store.
    number : {'record_id', 'ecg_id'}
        What the function takes: the number of a record, or that of a window. If records are cut into windows, the
        number of a window can also be that of another record.

    Returns
    -------
    callable
        Takes a number. The name is the number and, if the table has it, the name of the file, such as ``3 [r3.hea]``.
    """
    if not any(column in table for column in FILE_COLUMNS):
        return number_only

    def name(record: int) -> str:
        rows = table[table[number] == record]
        files = record_files(rows).dropna()
        return f"{record} [{PurePath(str(files.iloc[0])).name}]" if len(files) else str(record)

    return name


def record_files(table: pd.DataFrame, columns: Sequence[str] = FILE_COLUMNS) -> pd.Series[str]:
    """Return the file of each row of a table, by the first of the columns that states it; else a missing value."""
    import pandas as pd

    files: pd.Series[str] = pd.Series(None, index=table.index, dtype=object)
    for column in columns:
        if column in table:
            files = files.where(files.notna(), table[column])
    return files
