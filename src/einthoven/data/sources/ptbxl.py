"""PTB-XL, and any corpus in its layout, as a source of records and labels."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from einthoven.data.sources.download import download
from einthoven.data.sources.labels import (
    TASKS,
    Labels,
    annotated_classes,
    class_of_statement,
    positive_classes,
    read_database,
    read_statements,
    select_labels,
)
from einthoven.data.sources.record_paths import refuse_outside
from einthoven.data.sources.source_state import SourceState, known_state, open_source, own_options
from einthoven.data.store.packed_store import Store
from einthoven.data.store.packing import Progress
from einthoven.data.store.plan import Plan, RecordFiles, absent_records
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd

MIRRORS = ("https://physionet.org/files/ptb-xl/1.0.3",)
SUMS_SHA256 = "b7224b92b341511ec3ceb13dc6652079b2c36a06504bcb49506f157f51dc695d"
"""SHA-256 of the ``SHA256SUMS.txt`` of PTB-XL 1.0.3 (87,203 lines); several public projects record the same value."""

GENERATED = "synthetic"
"""Name of the generated corpus, which has no option for records that cannot be read."""

TABLES = ("ptbxl_database.csv", "scp_statements.csv")
RATES = {100: "filename_lr", 500: "filename_hr"}  # Hz -> column with the path of the record


@dataclass(frozen=True)
class PTBXL:
    """A folder in the official layout of PTB-XL.

    Parameters
    ----------
    root : path
        Holds ``ptbxl_database.csv``, ``scp_statements.csv`` and ``records100/`` (or ``records500/``).
    fs : int
        100 or 500 Hz: selects one of the two sets of records.
    cache : path
        Folder for the packed store.
    allow_missing : bool
        Leave out records that the table lists but the folder lacks, instead of raising an error.
    leads : sequence of str
        Leads to keep, in this order.
    seconds : float or None
        Length of a record; None: the recorded length.
    on_error : str
        A record that cannot be read ends the build (``fail``), or is left out and listed (``quarantine``).
    download : bool
        First download the corpus from the publisher to `root`: the tables, and only the records of `fs`.
    mirrors : sequence of str
        Addresses of the folder of the publisher that contains ``SHA256SUMS.txt``.
    sha256sums : str or None
        SHA-256 of that file. None: the value of the first download is saved, and later ones have to be equal.
    source : str
        Name of the corpus in the column `source`. A record of ``ptbxl`` has the same `ecg_id` in every source.

    References
    ----------
    Wagner et al., "PTB-XL, a large publicly available electrocardiography dataset", Scientific Data 2020.
    """

    root: str | Path
    fs: int
    cache: str | Path
    allow_missing: bool = False
    leads: Sequence[str] = LEADS
    seconds: float | None = None
    on_error: str = "fail"
    download: bool = False
    mirrors: Sequence[str] = MIRRORS
    sha256sums: str | None = SUMS_SHA256
    source: str = "ptbxl"

    label_sets = TASKS
    label_options = ("source",)

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the packed store of this corpus (or of one shard of it), building it on first use.

        `check` is as in `source_state.open_source`. With `download`, it also downloads the files that are missing.

        Raises
        ------
        UserError
            If the folder does not have the layout of PTB-XL, or if a record cannot be read.
        """
        return open_source(self._state, lambda: self._plan(progress), Path(self.cache), progress, shard, check)

    def state(self) -> Hashable | None:
        """Return what store and labels follow from, as `einthoven.data.sources.source_state.state_of` needs it."""
        return known_state(self._state, Path(self.cache))

    def _state(self) -> SourceState:
        tables = [Path(self.root) / name for name in TABLES]
        return SourceState.read(Path(self.root), own_options(self, "download", "mirrors", "sha256sums"), tables=tables)

    def _plan(self, progress: Progress | None) -> Plan:
        root = Path(self.root)
        if self.fs in RATES and self.download:
            self._download(root, progress)
        if not root.is_dir():
            raise UserError(
                f"data.root={root}: no such folder; expected one with ptbxl_database.csv in it "
                "(data.download=true downloads PTB-XL to it)."
            )
        if self.fs not in RATES:
            raise UserError(f"data.fs={self.fs}: PTB-XL has records at 100 Hz and 500 Hz.")
        database = read_database(root / "ptbxl_database.csv")
        column = RATES[self.fs]
        if column not in database or database[column].isna().any():
            raise UserError(
                f"{root / 'ptbxl_database.csv'}: column {column} has to name a {self.fs} Hz record in each row."
            )
        names = database[column]
        refuse_outside(names, root, "ptbxl_database.csv")
        # `os.path.exists` is faster than `Path.exists`, which matters for each of 20,000 records.
        exists = (os.path.exists(f"{root}/{name}.hea") for name in names)  # noqa: PTH110
        is_present = np.fromiter(exists, bool, len(names))
        if not is_present.any():
            raise UserError(
                f"data.root={root}: no record of {self.fs} Hz found; expected files such as {names.iloc[0]}.hea."
            )
        if not is_present.all() and not self.allow_missing:
            missing = sorted(set(names[~is_present]))
            raise UserError(
                f"{root / missing[0]}.hea: missing, although ptbxl_database.csv lists it (missing records: "
                f"{len(missing)}); data.allow_missing=true leaves such records out."
            )
        absent = absent_records(database.index.to_numpy(), names, is_present)
        database = database[is_present]
        # Raise an error now if the table of statements cannot be read, before an hour of packing.
        self._statements()
        files = RecordFiles(root, database[column])
        tables = tuple(root / name for name in TABLES)
        others: dict[str, Any] = {"tables": tables, "absent": absent, "label_files": tables[1:]}
        if self.source == GENERATED:
            others["remedy"] = f"delete {root}, and the next command generates it again"
        return Plan.from_source(self, files, database.assign(source=self.source), **others)

    def _download(self, root: Path, progress: Progress | None) -> None:
        folder = f"records{self.fs}/"

        def estimate_size(path: str) -> int:
            # 12 leads, 10 s, two bytes per sample. Headers and tables are smaller.
            return 12 * 10 * self.fs * 2 if path.endswith(".dat") else 1000

        def is_wanted(path: str) -> bool:
            return "/" not in path or path.startswith(folder)

        download(root, self.mirrors, is_wanted, estimate_size, progress, sums_sha256=self.sha256sums)

    def labels(self, table: pd.DataFrame, task: str, **options: bool | float) -> Labels:
        """Return the labels of the records in the table of a store; options as in `ptbxl_labels`."""
        return select_labels(table, self._statements(), task, **options)  # type: ignore[arg-type]

    def positives(self, table: pd.DataFrame, task: str, min_likelihood: float = 0.0) -> list[set[str]]:
        """Return the positive classes of each record in the table of a store."""
        return positive_classes(table, self._statements(), task, min_likelihood)

    def annotates(self, table: pd.DataFrame, task: str) -> dict[str, frozenset[str]]:
        """Return the classes that the annotators of this corpus used."""
        return {self.source: annotated_classes(self._statements(), task)}

    def class_of(self, task: str) -> dict[str, str]:
        """Return the class of each SCP-ECG statement, as in `einthoven.data.sources.labels.Labels`."""
        return class_of_statement(self._statements(), task)

    def statement_texts(self) -> dict[str, str]:
        """Return the description of each statement, as far as ``scp_statements.csv`` has one."""
        statements = self._statements()
        if "description" not in statements:
            return {}
        described = statements["description"].dropna()
        return {str(code): str(text) for code, text in described.items()}

    def _statements(self) -> pd.DataFrame:
        return read_statements(Path(self.root) / "scp_statements.csv")
