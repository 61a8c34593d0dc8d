"""How messages name a record: by its number, and by its file if the number is only a row of the user's table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NameRecord = Callable[[int], str]

_FILE_COLUMNS = ("path", "name")
"""Columns with the file of a record: of a folder, and of the records of the Challenge 2021."""


def number_only(record: int) -> str:
    """Return the number of a record as its name."""
    return str(record)


def names_in(table: pd.DataFrame) -> NameRecord:
    """Return the function that names the records of a store.

    Parameters
    ----------
    table : DataFrame
        Table of the store.

    Returns
    -------
    callable
        Takes an ``ecg_id`` or a ``record_id``. The name is the number and, if the table has it, the name of the file,
        such as ``3 [r3.hea]``.
    """
    column = next((name for name in _FILE_COLUMNS if name in table), None)
    if column is None:
        return number_only

    def name(record: int) -> str:
        is_record = (table["ecg_id"] == record) | (table["record_id"] == record)
        files = table.loc[is_record, column].dropna()
        return f"{record} [{PurePath(str(files.iloc[0])).name}]" if len(files) else str(record)

    return name
