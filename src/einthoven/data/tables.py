"""CSV tables of labels. A name is what its cell says: ``NA``, ``None``, ``001``, ``1e5`` and ``TRUE`` are names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def read_text(path: Path, hint: str) -> pd.DataFrame:
    """Read a table as text: no cell is taken for a number, a truth value or a missing value.

    Parameters
    ----------
    path : Path
    hint : str
        End of the sentence where the file cannot be read.

    Returns
    -------
    DataFrame of str
        An empty cell is the empty text. Blanks at the start of a cell are left out.

    Raises
    ------
    UserError
        If the file cannot be read, or is no table with a header line.
    """
    import pandas as pd

    try:
        # Without `header=None` pandas renames a second column of one name, and may take the first column for an index.
        lines = pd.read_csv(
            path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {hint}.") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV table with a header line ({' '.join(str(error).split())}).") from None
    lines = lines.fillna("")  # fields that a line lacks at its end
    rows = lines.iloc[1:].reset_index(drop=True)
    rows.columns = lines.iloc[0].str.strip().tolist()
    return rows


def read_typed(path: Path, names: tuple[str | int, ...], hint: str) -> pd.DataFrame:
    """Read a table with numbers where a column holds numbers; other columns are text, as `read_text` has it.

    Parameters
    ----------
    path : Path
    names : tuple of str or int
        Columns (an int: by position) that are text whatever they look like.
    hint : str
        End of the sentence where the file cannot be read.

    Returns
    -------
    DataFrame
        A missing value is an empty cell. In a column of numbers, words such as ``NA`` and ``nan`` are missing, too.

    Raises
    ------
    UserError
        If the file cannot be read, is empty, or has rows with more fields than the header.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, low_memory=False)  # as a whole, so that a column has one type
        text = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {hint}.") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: empty; {hint} with a header line.") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable CSV table ({' '.join(str(error).split())}).") from None
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}: its rows have more fields than its header line; expected as many.")
    always = {table.columns[name] if isinstance(name, int) else name for name in names}
    for name in table.columns:
        if name in always or pd.api.types.infer_dtype(table[name], skipna=True) == "string":
            table[name] = text[name]
    return table
