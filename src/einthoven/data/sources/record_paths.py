"""Names of record files from the columns of a table of labels."""

from __future__ import annotations

import os
import string
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def pattern_columns(pattern: str) -> tuple[str, ...]:
    """Return the columns of a pattern such as ``{trace_file}/{exam_id}``. A plain name is a column itself.

    A number behind a colon and a point shortens a cell: ``{subject_id:.4}`` is its first four characters.

    Raises
    ------
    UserError
        If the pattern cannot be read.
    """
    if "{" not in pattern:
        return (pattern,)
    columns = []
    try:
        for _, name, length, conversion in string.Formatter().parse(pattern):
            if name is None:
                continue
            is_length = not length or (length.startswith(".") and length[1:].isdecimal())
            if not name or conversion or not is_length or not name.replace("_", "a").isalnum():
                raise ValueError
            columns.append(name)
    except ValueError:
        raise UserError(
            f"data.path_column={pattern}: expected a column, or a pattern of columns such as {{folder}}/{{name}} or "
            "{subject_id:.4}."
        ) from None
    return tuple(columns)


def fill_pattern(pattern: str, rows: pd.DataFrame) -> pd.Series[str]:
    """Return the record file of each row.

    Parameters
    ----------
    pattern : str
        As in `pattern_columns`.
    rows : DataFrame of str
        With these columns.
    """
    import pandas as pd

    columns = pattern_columns(pattern)
    if "{" not in pattern:
        return rows[pattern]
    cells = [rows[name].str.strip() for name in columns]
    parts = [dict(zip(columns, values, strict=True)) for values in zip(*cells, strict=True)]
    return pd.Series([pattern.format_map(part) for part in parts], index=rows.index, dtype=str)


def refuse_outside(names: pd.Series[str], root: Path, table: str) -> None:
    """Refuse names of records that lead out of the folder of the records.

    The table can come from a stranger. A link in the folder is followed: the files of DataLad and git-annex are links.

    Parameters
    ----------
    names : Series of str
        Relative to `root`, or absolute.
    root : Path
    table : str
        Name of the table, for the message.

    Raises
    ------
    UserError
        Names the first such record.
    """
    is_suspect = names.str.startswith("/") | names.str.contains("..", regex=False)
    folder = os.path.abspath(root)  # noqa: PTH100  # `resolve` would follow links
    for name in names[is_suspect]:
        path = PurePath(name)
        # Behind a link, `..` is another folder than the name says. So it is refused everywhere.
        if ".." in path.parts or (path.is_absolute() and not path.is_relative_to(folder)):
            raise UserError(
                f"{table}: {name!r} lies outside of data.root={root}; expected the path of a record in this folder, "
                "without '..'."
            )
