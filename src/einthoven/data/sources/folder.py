"""Your own ECGs as a source: a folder of readable files, and one CSV table of their labels."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import millivolts
from einthoven.data.formats.inputs import record_exists
from einthoven.data.formats.reading import RECORD_SUFFIXES
from einthoven.data.sources.labels import Labels, indicators, label_matrix
from einthoven.data.sources.record_paths import fill_pattern, pattern_columns, refuse_outside
from einthoven.data.sources.saved_folds import SavedFolds, reserve_file
from einthoven.data.sources.source_state import SourceState, known_state, open_source, own_options
from einthoven.data.store.packed_store import Store
from einthoven.data.store.packing import Progress
from einthoven.data.store.plan import LARGEST_FS, Plan, RecordFiles, absent_records
from einthoven.data.tables import read_text
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd

LABEL_SET = "columns"
_PARTS = (".hea", ".dat", ".mat")  # files of one WFDB record
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
        Column with the file of each record, relative to `root`; or a pattern of columns, such as
        ``{trace_file}/{exam_id}`` (`einthoven.data.sources.record_paths`).
    label_column : str, sequence of str or None
        Column with the classes of each record, separated by `separator`; an empty cell means no class. The classes of
        several columns are joined.
    separator : str
    only_classes : sequence of str or None
        Keep only these classes.
    class_columns : sequence of str or None
        Instead of `label_column`: columns of 0 and 1, one per class.
    patient_column, fold_column, age_column, sex_column : str or None
        Columns with these values. Without a patient column, each record is a patient of its own. Without a fold
        column, patients are split into ten folds with equal class frequencies, and these folds are saved.
    fold_file : path or None
        File for these folds, relative to `root`; None: ``labels.folds.csv`` next to ``labels.csv``, or a file in the
        cache if the folder of the table cannot be written.
    file_fs, file_units, file_leads
        Sampling frequency, unit and leads of files that do not contain them.
    fs : float
        Sampling frequency of the store in Hz; records with another sampling frequency are resampled.
    cache : path
        Folder for the packed store.
    leads : sequence of str
        Leads to keep, in this order.
    seconds, long, short, stride, on_error
        As in `einthoven.data.store.plan.Plan`.
    allow_missing : bool
        Leave out rows whose file does not exist, instead of raising an error.
    """

    root: str | Path
    fs: float
    cache: str | Path
    table: str | Path = "labels.csv"
    path_column: str = "path"
    label_column: str | Sequence[str] | None = "labels"
    separator: str = ";"
    only_classes: Sequence[str] | None = None
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
    label_options = ("class_columns", "patient_column", "fold_column")

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the packed store of these records (or of one shard of them); build it on first use.

        `check` is as in `einthoven.data.sources.source_state.open_source`.

        Raises
        ------
        UserError
            If the table does not fit the files, or if a record cannot be read.
        """
        return open_source(self._state, self._plan, Path(self.cache), progress, shard, check)

    def state(self) -> Hashable | None:
        """Return what store and labels follow from, as `einthoven.data.sources.source_state.state_of` needs it."""
        return known_state(self._state, Path(self.cache))

    def _state(self) -> SourceState:
        folds: list[Path] = []
        if self.fold_column is None:
            folds = self._saved_folds.files
        return SourceState.read(Path(self.root), own_options(self), tables=[self._csv], folds=folds)

    def _plan(self) -> Plan:
        root = Path(self.root)
        csv = self._csv
        if not root.is_dir():
            raise UserError(f"data.root={root}: no such folder; expected one with ECG records in it.")
        reading = self._reading()
        rows = self._read()
        paths = rows[self.path_column]
        is_present = np.array([record_exists(os.path.join(root, path)) for path in paths], bool)  # noqa: PTH118
        if not is_present.all() and not self.allow_missing:
            raise UserError(
                f"{csv.name}: {paths[~is_present].iloc[0]} is not in {root} (missing files: {(~is_present).sum()} of "
                f"{len(rows)}); data.allow_missing=true leaves such rows out."
            )
        if not is_present.any():
            raise UserError(f"{csv.name}: none of its {len(rows)} records is in {root}; data.root is their folder.")
        absent = absent_records(rows.index.to_numpy() + 1, paths, is_present)
        rows = rows[is_present]
        table, notes = self._table(rows)
        files = RecordFiles(root, rows[self.path_column])
        style = "data.file_{name}={value}"
        others: dict[str, Any] = {"absent": absent, "notes": notes, "reading": reading, "option_style": style}
        return Plan.from_source(self, files, table, tables=(csv,), **others)

    def _reading(self) -> dict[str, Any]:
        """Return the checked values of `file_fs`, `file_units` and `file_leads`, as arguments of `read_record`."""
        reading: dict[str, Any] = {}
        if self.file_fs is not None:
            if not 0 < self.file_fs < LARGEST_FS:
                raise UserError(
                    f"data.file_fs={self.file_fs}: expected the sampling frequency of the files in Hz, above 0 and "
                    f"below {LARGEST_FS:,}, or null."
                )
            reading["fs"] = self.file_fs
        if self.file_units is not None:
            try:
                millivolts(str(self.file_units), "", "")
            except UserError:
                raise UserError(f"data.file_units={self.file_units}: expected mV, uV, nV or V, or null.") from None
            reading["units"] = self.file_units
        if self.file_leads is not None:
            is_list = not isinstance(self.file_leads, str) and all(isinstance(name, str) for name in self.file_leads)
            if not is_list or not self.file_leads:
                raise UserError(
                    f"data.file_leads={self.file_leads}: expected the leads of the files in their order, such as "
                    "[I,II,V1], or null."
                )
            reading["leads"] = self.file_leads
        return reading

    def positives(self, table: pd.DataFrame, task: str, min_likelihood: float = 0.0) -> list[set[str]]:
        """Return the positive classes of each record in the table of a store."""
        if min_likelihood:
            raise UserError(f"task.min_likelihood={min_likelihood}: these labels have no likelihood; expected 0.")
        return [set(filter(None, names.split("\n"))) for names in table["classes"].to_numpy()]

    def annotates(self, table: pd.DataFrame, task: str) -> dict[str, frozenset[str]]:
        """Return the classes of the table: the names in `class_columns`, or all names in the label column."""
        if self.class_columns is not None:
            return {"folder": frozenset(self.class_columns)}
        return {"folder": frozenset[str]().union(*self.positives(table, task))}

    def class_of(self, task: str) -> dict[str, str]:
        """Return an empty mapping: a class that has the name of an SCP-ECG statement stands for that statement."""
        return {}

    def labels(self, table: pd.DataFrame, task: str, *, min_likelihood: float = 0.0, **options: bool) -> Labels:
        """Return the labels of the records in the table of a store; options as in `label_matrix`."""
        positives = self.positives(table, task, min_likelihood)
        return label_matrix(table, positives, task, class_of=self.class_of(task), notes=self.notes(table), **options)

    @property
    def _csv(self) -> Path:
        return Path(self.root) / self.table

    @property
    def _saved_folds(self) -> SavedFolds:
        csv = self._csv
        column = self.patient_column or self.path_column
        if self.fold_file is not None:
            return SavedFolds(Path(self.root) / self.fold_file, None, column, csv.name, is_whole=False)
        return SavedFolds(csv.with_suffix(".folds.csv"), reserve_file(csv, self.cache), column, csv.name)

    def _read(self) -> pd.DataFrame:
        """Read the table as text, and check its columns and that it has one row per record."""
        csv = self._csv
        if self.class_columns is None and self.label_column is None:
            raise UserError("data.label_column=null: expected the column of the labels, or data.class_columns.")
        if self.class_columns is not None and self.label_column is not None:
            raise UserError(
                f"data.label_column={self.label_column} and data.class_columns: expected one of them; add "
                "data.label_column=null for the columns of classes."
            )
        rows = read_text(csv, "data.table names a CSV of labels")
        optional = (self.patient_column, self.fold_column, self.age_column, self.sex_column)
        path_columns = pattern_columns(self.path_column)
        columns = [*path_columns, *self._label_columns, *filter(None, optional), *(self.class_columns or ())]
        missing = [name for name in columns if name not in rows]
        if missing:
            raise UserError(
                f"{csv.name}: no column {missing[0]!r}; it has {', '.join(map(str, rows))} (data.*_column name them)."
            )
        repeated = [name for name in columns if list(rows).count(name) > 1]
        if repeated:
            raise UserError(f"{csv.name}: {list(rows).count(repeated[0])} columns named {repeated[0]!r}; expected one.")
        if rows.empty:
            raise UserError(f"{csv.name}: no rows; expected one per record.")
        for name in filter(None, (*path_columns, self.patient_column, self.fold_column)):
            is_blank = rows[name].str.strip() == ""
            if is_blank.any():
                raise UserError(f"{csv.name}: row {_first_row(is_blank)}: column {name!r} is empty.")

        if self.path_column not in rows:
            rows = rows.assign(**{self.path_column: fill_pattern(self.path_column, rows)})
        refuse_outside(rows[self.path_column], Path(self.root), csv.name)

        # Two rows must not name the same record, also not by two of its files.
        stems = rows[self.path_column].map(_stem)
        is_repeated = stems.duplicated()
        if is_repeated.any():
            stem = stems[is_repeated].iloc[0]
            raise UserError(
                f"{csv.name}: rows {_first_row(stems == stem)} and {_first_row(is_repeated)} are both of {stem}; "
                "expected one row per record (several classes stand in one row, separated by "
                f"{self.separator!r})."
            )
        return rows

    def _table(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Return the table of a plan, and notes about folds that were saved."""
        import pandas as pd

        classes = self._classes(rows)
        matrix, names = indicators(classes)
        # A line break separates the classes of a record in the table of the store.
        for name in names:
            if not name or "\n" in name:
                raise UserError(f"{self._csv.name}: class {name!r}: expected a name without line breaks.")

        # The ecg_id of a record is its row in the CSV file: 1 is the first row below the header.
        ecg_id = rows.index.to_numpy(np.int64) + 1
        if self.patient_column is None:
            patient_id = ecg_id
            fold_names = rows[self.path_column].map(_stem)
        else:
            fold_names = rows[self.patient_column].str.strip()
            _, patient_number = np.unique(fold_names.to_numpy(dtype=str), return_inverse=True)
            patient_id = patient_number.astype(np.int64) + 1
        notes: tuple[str, ...] = ()
        if self.fold_column is None:
            folds, notes = self._saved_folds.folds(fold_names, matrix, patient_id)
        else:
            folds = self._folds(rows)
        table = pd.DataFrame(
            {
                "ecg_id": ecg_id,
                "patient_id": patient_id,
                "strat_fold": folds,
                "source": "folder",
                "path": rows[self.path_column].to_numpy(),
                "classes": ["\n".join(sorted(record_classes)) for record_classes in classes],
            }
        )
        if self.age_column is not None:
            table["age"] = pd.to_numeric(rows[self.age_column], errors="coerce").to_numpy(np.float64)
        if self.sex_column is not None:
            table["sex"] = rows[self.sex_column].to_numpy()
        return table, notes

    @property
    def _label_columns(self) -> tuple[str, ...]:
        if self.label_column is None:
            return ()
        return (self.label_column,) if isinstance(self.label_column, str) else tuple(self.label_column)

    def _classes(self, rows: pd.DataFrame) -> list[set[str]]:
        """Return the positive classes of each row."""
        classes: list[set[str]] = [set() for _ in range(len(rows))]
        for name in self._label_columns:
            for number, cell in enumerate(rows[name]):
                classes[number] |= {part.strip() for part in cell.split(self.separator)} - {""}
        for name in self.class_columns or ():
            cells = rows[name].str.strip().str.lower()
            for number, cell in enumerate(cells):
                if cell not in _YES_NO:
                    raise UserError(
                        f"{self._csv.name}: row {rows.index[number] + 1}: column {name!r} has {cell[:40]!r}; expected "
                        "0 or 1 (an empty cell is neither)."
                    )
                if _YES_NO[cell]:
                    classes[number].add(name)
        if self.only_classes is None:
            return classes

        # A misspelled class would be negative for all records.
        wanted = set(self.only_classes)
        unknown = sorted(wanted - set[str]().union(*classes))
        if unknown:
            raise UserError(
                f"data.only_classes: no row of {self._csv.name} has the class {unknown[0]!r}; expected one of them."
            )
        return [names & wanted for names in classes]

    def _folds(self, rows: pd.DataFrame) -> NDArray[np.int64]:
        """Return the fold of each row, from the fold column."""
        cells = rows[self.fold_column].str.strip()
        is_wrong = ~cells.str.fullmatch(r"\d{1,6}(\.0)?")
        if is_wrong.any():
            raise UserError(
                f"{self._csv.name}: row {_first_row(is_wrong)}: column {self.fold_column!r} has "
                f"{cells[is_wrong].iloc[0]!r}; expected the number of a fold."
            )
        return cells.astype(float).to_numpy().astype(np.int64)

    def notes(self, table: pd.DataFrame) -> tuple[str, ...]:
        """Return notes for a reader of these labels: record files that are not used, patients that are not named."""
        root = Path(self.root)
        notes = []

        # Resolve links once per folder, not once per record.
        @cache
        def resolve(folder: str) -> str:
            return os.path.realpath(os.path.join(root, folder))  # noqa: PTH118

        listed: set[str] = set()
        for path in table["path"].to_numpy():
            folder, _, name = path.rpartition("/")
            listed.add(f"{resolve(folder)}/{_stem(name)}")
        unlisted = []
        for folder, _, names in os.walk(root):
            real_folder = os.path.realpath(folder)
            for name in names:
                is_record = name.lower().endswith(RECORD_SUFFIXES)
                if is_record and f"{real_folder}/{_stem(name)}" not in listed:
                    unlisted.append(Path(folder) / name)
        if unlisted:
            notes.append(
                f"record files of {root.name} that are not used: {len(unlisted)}, such as "
                f"{min(unlisted).relative_to(root)}; {self._csv.name} does not list them, or they cannot be read"
            )
        if self.patient_column is None:
            notes.append("no data.patient_column: records of one patient may be in different folds")
        if self.fold_column is None:
            notes += self._saved_folds.notes()
        return tuple(notes)


def _stem(path: str) -> str:
    """Return the path of a WFDB record without the suffix of its files; other files keep their suffix."""
    stem, suffix = os.path.splitext(os.path.normpath(path))  # noqa: PTH122
    return stem if suffix.lower() in _PARTS else f"{stem}{suffix}"


def _first_row(is_marked: pd.Series[bool]) -> int:
    """Return the number of the first marked row; 1 is the first row below the header."""
    return int(is_marked.to_numpy().argmax()) + 1
