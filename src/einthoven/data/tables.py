"""Read CSV tables of labels. A name is the text of its cell: ``NA``, ``None``, ``001`` and ``TRUE`` are names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def read_text(path: Path, hint: str) -> pd.DataFrame:
    """Read a table as text. No cell becomes a number, a truth value or a missing value.

    Parameters
    ----------
    path : Path
    hint : str
        End of the error message if the file cannot be read.

    Returns
    -------
    DataFrame of str
        An empty cell is an empty text. Blanks at the start of a cell are removed.

    Raises
    ------
    UserError
        If the file cannot be read, or is not a table with a header line.
    """
    import pandas as pd

    try:
        # Without `header=None`, pandas renames a repeated column name and may use the first column as the index.
        lines = pd.read_csv(
            path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {hint}.") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV table with a header line ({_reason(error)}).") from None
    # A line may have fewer fields than the header. The missing ones are empty cells.
    lines = lines.fillna("")
    rows = lines.iloc[1:].reset_index(drop=True)
    rows.columns = lines.iloc[0].str.strip().tolist()
    return rows


def read_typed(path: Path, names: tuple[str | int, ...], hint: str) -> pd.DataFrame:
    """Read a table: columns of numbers become numbers, other columns stay text as in `read_text`.

    Parameters
    ----------
    path : Path
    names : tuple of str or int
        Columns that stay text whatever they contain; an int is the position of a column.
    hint : str
        End of the error message if the file cannot be read.

    Returns
    -------
    DataFrame
        An empty cell is a missing value. In a column of numbers, words such as ``NA`` and ``nan`` are missing values,
        too.

    Raises
    ------
    UserError
        If the file cannot be read, is empty, or has rows with more fields than the header.
    """
    import pandas as pd

    try:
        # `low_memory=False` reads the file as a whole, so that each column has one type.
        table = pd.read_csv(path, low_memory=False)
        text = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {hint}.") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: empty; {hint} with a header line.") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable CSV table ({_reason(error)}).") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}: its rows have more fields than its header line; expected as many.")

    # Take the text of a column from the second reading, in which pandas has converted nothing.
    text_columns = {table.columns[name] if isinstance(name, int) else name for name in names}
    for name in table.columns:
        if name in text_columns or pd.api.types.infer_dtype(table[name], skipna=True) == "string":
            table[name] = text[name]
    return table


def _reason(error: Exception) -> str:
    """Return why a table cannot be read, without the internal words of pandas and of Python."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} is not UTF-8; expected a text file that was saved as UTF-8"
    message = " ".join(str(error).split())
    return message.removeprefix("Error tokenizing data. C error: ")
