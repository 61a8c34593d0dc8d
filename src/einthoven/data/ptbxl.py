"""PTB-XL, and any corpus in its layout, as a source of records and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.data.labels import Labels, read_database, read_statements, select_labels
from einthoven.data.store import Progress, Store, open_or_build, store_key
from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

RATES = {100: "filename_lr", 500: "filename_hr"}  # Hz -> column with the record's path


@dataclass(frozen=True)
class PTBXL:
    """A folder in PTB-XL's official layout.

    Parameters
    ----------
    root : path
        Holds ``ptbxl_database.csv``, ``scp_statements.csv`` and ``records100/`` (or ``records500/``).
    fs : int
        100 or 500 Hz: which of the two sets of records to read.
    cache : path
        Where the packed store is kept.
    allow_missing : bool
        Leave out records that the table lists and the folder lacks, instead of refusing.

    References
    ----------
    Wagner et al., "PTB-XL, a large publicly available electrocardiography dataset", Scientific Data 2020.
    """

    root: str | Path
    fs: int
    cache: str | Path
    allow_missing: bool = False

    def open(self, progress: Progress | None = None) -> Store:
        """Open the packed store of this corpus, building it on first use.

        Raises
        ------
        UserError
            If the folder is not in PTB-XL's layout or a record cannot be read.
        """
        root = Path(self.root)
        if not root.is_dir():
            raise UserError(f"data.root={root}: no such folder; expected one with ptbxl_database.csv in it.")
        if self.fs not in RATES:
            raise UserError(f"data.fs={self.fs}: PTB-XL has records at 100 Hz and 500 Hz.")
        database = read_database(root / "ptbxl_database.csv")
        column = RATES[self.fs]
        if column not in database or database[column].isna().any():
            raise UserError(
                f"{root / 'ptbxl_database.csv'}: column {column} has to name a {self.fs} Hz record in each row."
            )
        names = database[column].tolist()
        present = [name for name in names if (root / f"{name}.hea").exists()]
        if not present:
            raise UserError(f"data.root={root}: no record of {self.fs} Hz found; expected {names[0]}.hea and the like.")
        if len(present) < len(names) and not self.allow_missing:
            missing = sorted(set(names) - set(present))
            raise UserError(
                f"{root / missing[0]}.hea: missing, though ptbxl_database.csv lists it, as are {len(missing) - 1} "
                "more; data.allow_missing=true leaves such records out."
            )
        database = database[database[column].isin(present)]
        tables = [root / "ptbxl_database.csv", root / "scp_statements.csv"]
        read_statements(tables[1])
        key = store_key(root, present, tables, self.fs)
        path = Path(self.cache) / "stores" / f"{root.resolve().name}-{self.fs}hz-{key}"
        return open_or_build(path, root, present, database, self.fs, progress)

    def labels(self, table: pd.DataFrame, task: str, **options: bool | float) -> Labels:
        """Labels of the records in a store's table; options as in `ptbxl_labels`."""
        statements = read_statements(Path(self.root) / "scp_statements.csv")
        return select_labels(table, statements, task, **options)  # type: ignore[arg-type]
