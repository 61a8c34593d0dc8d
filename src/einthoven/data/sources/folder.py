"""Anyone's ECGs as a source: a folder of readable files, and one CSV table that says what they show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.reading import RECORD_SUFFIXES
from einthoven.data.sources.labels import Labels, indicators, label_matrix
from einthoven.data.sources.saved_folds import SavedFolds, reserve_file
from einthoven.data.sources.source_state import SourceState, open_source, own_options
from einthoven.data.store.packed_store import Progress, Store
from einthoven.data.store.plan import Plan, RecordFiles
from einthoven.data.tables import read_text
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd

LABEL_SET = "columns"
_PARTS = (".hea", ".dat", ".mat")  # of one WFDB record
_YES_NO = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}


@dataclass(frozen=True)
class Folder:
    """A folder of record files and a table of their labels.

    Parameters
    ----------
    root : path
        Folder of the records.
    table : path
        CSV with a header line and one row per record; relative to `root`.
    path_column : str
        Column with the file of each record, relative to `root`.
    label_column : str or None
        Column with the classes of each record, apart by `separator`; empty: none of them.
    separator : str
    class_columns : sequence of str or None
        Instead of `label_column`: columns of 0 and 1, one per class.
    patient_column, fold_column, age_column, sex_column : str or None
        Columns with these. Without a patient column each record is its own patient; without a fold column ten
        folds are made by patient, in which every class is as frequent as in the whole, and are saved.
    fold_file : path or None
        Where these folds are saved, relative to `root`; None: ``labels.folds.csv`` beside ``labels.csv``, or in the
        cache where the folder of the table cannot be written.
    file_fs, file_units, file_leads
        Sampling frequency, unit and leads of files that do not say so themselves.
    fs : float
        Sampling frequency of the store in Hz; records of another are resampled.
    cache : path
        Where the packed store is kept.
    leads : sequence of str
        Leads to keep, in this order.
    seconds, long, short, stride, on_error
        As in `einthoven.data.store.plan.Plan`.
    allow_missing : bool
        Leave out rows whose file is not there, instead of refusing.
    """

    root: str | Path
    fs: float
    cache: str | Path
    table: str | Path = "labels.csv"
    path_column: str = "path"
    label_column: str | None = "labels"
    separator: str = ";"
    class_columns: Sequence[str] | None = None
    patient_column: str | None = None
    fold_column: str | None = None
    fold_file: str | Path | None = None
    age_column: str | None = None
    sex_column: str | None = None
    file_fs: float | None = None
    file_units: str | None = None
    file_leads: Sequence[str] | None = None
    leads: Sequence[str] = LEADS
    seconds: float | None = 10.0
    long: str = "crop"
    short: str = "pad"
    stride: float | None = None
    on_error: str = "fail"
    allow_missing: bool = False

    label_sets = (LABEL_SET,)

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the packed store of these records (or of one shard of them), building it on first use.

        `check` is as in `einthoven.data.sources.source_state.open_source`.

        Raises
        ------
        UserError
            If the table does not fit the files, or a record cannot be read.
        """
        return open_source(self._state, self._plan, Path(self.cache), progress, shard, check)

    def _state(self) -> SourceState:
        saved = self._saved_folds
        folds = [file for file in (saved.file, saved.reserve) if file and self.fold_column is None]
        return SourceState.of(Path(self.root), own_options(self), tables=[self._csv], folds=folds)

    def _plan(self) -> Plan:
        root, csv = Path(self.root), self._csv
        if not root.is_dir():
            raise UserError(f"data.root={root}: no such folder; expected one with ECG records in it.")
        rows = self._read()
        there = np.fromiter((_exists(root / path) for path in rows[self.path_column]), bool, len(rows))
        if not there.all() and not self.allow_missing:
            raise UserError(
                f"{csv.name}: {rows[self.path_column][~there].iloc[0]} is not in {root}, nor are {(~there).sum() - 1} "
                "more that it lists; data.allow_missing=true leaves such rows out."
            )
        if not there.any():
            raise UserError(f"{csv.name}: none of its {len(rows)} records is in {root}; data.root is their folder.")
        rows = rows[there]
        table, notes = self._table(rows)
        given = {"fs": self.file_fs, "units": self.file_units, "leads": self.file_leads}
        return Plan(
            name=root.resolve().name,
            files=RecordFiles(root, rows[self.path_column]),
            table=table,
            tables=(csv,),
            notes=notes,
            fs=self.fs,
            leads=self.leads,
            seconds=self.seconds,
            long=self.long,
            short=self.short,
            stride=self.stride,
            on_error=self.on_error,
            reading={name: value for name, value in given.items() if value is not None},
        )

    def positives(self, table: pd.DataFrame, task: str, min_likelihood: float = 0.0) -> list[set[str]]:
        """Classes that each record of a store's table is positive for."""
        if min_likelihood:
            raise UserError(f"task.min_likelihood={min_likelihood}: these labels have no likelihood; expected 0.")
        return [set(filter(None, names.split("\n"))) for names in table["classes"]]

    def annotates(self, table: pd.DataFrame, task: str) -> dict[str, frozenset[str]]:
        """The classes of the table: those of its columns, or those that stand in its label column."""
        if self.class_columns is not None:
            return {"folder": frozenset(self.class_columns)}
        return {"folder": frozenset[str]().union(*self.positives(table, task))}

    def class_of(self, task: str) -> dict[str, str]:
        """Class of each SCP-ECG statement, as in `einthoven.data.sources.labels.Labels`."""
        return {}  # a class of one's own that has a statement's name is taken for it

    def labels(self, table: pd.DataFrame, task: str, *, min_likelihood: float = 0.0, **options: bool) -> Labels:
        """Labels of the records in a store's table; options as in `label_matrix`."""
        positives = self.positives(table, task, min_likelihood)
        return label_matrix(table, positives, task, class_of=self.class_of(task), notes=self.notes(table), **options)

    @property
    def _csv(self) -> Path:
        return Path(self.root) / self.table

    @property
    def _saved_folds(self) -> SavedFolds:
        csv, column = self._csv, self.patient_column or self.path_column
        if self.fold_file is not None:
            return SavedFolds(Path(self.root) / self.fold_file, None, column, csv.name, whole=False)
        return SavedFolds(csv.with_suffix(".folds.csv"), reserve_file(csv, self.cache), column, csv.name)

    def _read(self) -> pd.DataFrame:
        """The table as text, checked: columns, one row per record."""
        csv = self._csv
        if (self.label_column is None) == (self.class_columns is None):
            raise UserError("data.label_column and data.class_columns: expected one of them; the other is null.")
        rows = read_text(csv, "data.table names a CSV of labels")
        optional = (self.label_column, self.patient_column, self.fold_column, self.age_column, self.sex_column)
        columns = [self.path_column, *filter(None, optional), *(self.class_columns or ())]
        if missing := [name for name in columns if name not in rows]:
            raise UserError(
                f"{csv.name}: no column {missing[0]!r}; it has {', '.join(map(str, rows))} (data.*_column name them)."
            )
        if doubled := [name for name in columns if list(rows).count(name) > 1]:
            raise UserError(f"{csv.name}: {list(rows).count(doubled[0])} columns named {doubled[0]!r}; expected one.")
        if rows.empty:
            raise UserError(f"{csv.name}: no rows; expected one per record.")
        for name in filter(None, (self.path_column, self.patient_column, self.fold_column)):
            if (blank := rows[name].str.strip() == "").any():
                raise UserError(f"{csv.name}: row {_row(blank)}: column {name!r} is empty.")
        stems = rows[self.path_column].map(_stem)
        if (twice := stems.duplicated()).any():
            first = stems == stems[twice].iloc[0]
            raise UserError(
                f"{csv.name}: rows {_row(first)} and {_row(twice)} are both of {stems[twice].iloc[0]}; expected one "
                f"row per record (several classes stand in one row, apart by {self.separator!r})."
            )
        return rows

    def _table(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """The table of a plan, and what was saved to make it."""
        import pandas as pd

        classes = self._classes(rows)
        matrix, names = indicators(classes)
        for name in names:
            if not name or "\n" in name:  # which stands between the classes of a record in the store's table
                raise UserError(f"{self._csv.name}: class {name!r}: expected a name without line breaks.")
        ecg_id = rows.index.to_numpy(np.int64) + 1  # the row of the table: 1 is the first below the header
        if self.patient_column is None:
            patient, who = ecg_id, rows[self.path_column].map(_stem)
        else:
            patient, who = _numbered(rows[self.patient_column]) + 1, rows[self.patient_column].str.strip()
        notes: tuple[str, ...] = ()
        if self.fold_column is None:
            folds, notes = self._saved_folds.folds(who, matrix, patient)
        else:
            folds = self._folds(rows)
        table = pd.DataFrame(
            {
                "ecg_id": ecg_id,
                "patient_id": patient,
                "strat_fold": folds,
                "source": "folder",
                "path": rows[self.path_column].to_numpy(),
                "classes": ["\n".join(sorted(found)) for found in classes],
            }
        )
        if self.age_column is not None:
            table["age"] = pd.to_numeric(rows[self.age_column], errors="coerce").to_numpy(np.float64)
        if self.sex_column is not None:
            table["sex"] = rows[self.sex_column].to_numpy()
        return table, notes

    def _classes(self, rows: pd.DataFrame) -> list[set[str]]:
        """Classes of each row."""
        if self.class_columns is None:
            assert self.label_column is not None
            return [{part.strip() for part in cell.split(self.separator)} - {""} for cell in rows[self.label_column]]
        found: list[set[str]] = [set() for _ in range(len(rows))]
        for name in self.class_columns:
            for number, (cell, names) in enumerate(zip(rows[name].str.strip().str.lower(), found, strict=True)):
                if cell not in _YES_NO:
                    raise UserError(
                        f"{self._csv.name}: row {rows.index[number] + 1}: column {name!r} has {cell[:40]!r}; expected "
                        "0 or 1 (an empty cell is neither)."
                    )
                if _YES_NO[cell]:
                    names.add(name)
        return found

    def _folds(self, rows: pd.DataFrame) -> NDArray[np.int64]:
        cells = rows[self.fold_column].str.strip()
        if (bad := ~cells.str.fullmatch(r"\d{1,6}(\.0)?")).any():
            raise UserError(
                f"{self._csv.name}: row {_row(bad)}: column {self.fold_column!r} has {cells[bad].iloc[0]!r}; expected "
                "the number of a fold."
            )
        folds: NDArray[np.int64] = cells.astype(float).to_numpy().astype(np.int64)
        return folds

    def notes(self, table: pd.DataFrame) -> tuple[str, ...]:
        """What a reader of these labels should know: record files that are not in use, patients that are not named."""
        root, notes = Path(self.root), []
        real = cache(os.path.realpath)  # of the few folders, not of each record

        def place(folder: str, name: str) -> str:
            return f"{real(folder)}/{_stem(name)}"

        listed = {place(*os.path.split(root / path)) for path in table["path"]}
        unlisted = sorted(
            Path(folder) / name
            for folder, _, names in os.walk(root)
            for name in names
            if os.path.splitext(name)[1].lower() in RECORD_SUFFIXES and place(folder, name) not in listed  # noqa: PTH122
        )
        if unlisted:
            notes.append(
                f"{len(unlisted)} record files of {root.name} are not in use, such as {unlisted[0].relative_to(root)}: "
                f"{self._csv.name} does not list them, or they could not be read"
            )
        if self.patient_column is None:
            notes.append("no data.patient_column: records of one patient may stand in different folds")
        if self.fold_column is None:
            notes += self._saved_folds.note()
        return tuple(notes)


def _stem(path: str) -> str:
    """A WFDB record by its name alone, whichever of its files is given; other files as they are."""
    stem, suffix = os.path.splitext(os.path.normpath(path))  # noqa: PTH122
    return stem if suffix.lower() in _PARTS else f"{stem}{suffix}"


def _exists(path: Path) -> bool:
    return path.is_file() or Path(f"{path}.hea").is_file()


def _row(marked: pd.Series[bool]) -> int:
    """Number of the first marked row, counted from 1 below the header."""
    return int(marked.to_numpy().argmax()) + 1


def _numbered(column: pd.Series[str]) -> NDArray[np.int64]:
    """Whole numbers for the values of a column, in their sorted order."""
    _, numbers = np.unique(column.str.strip().to_numpy(dtype=str), return_inverse=True)
    return numbers.astype(np.int64)
