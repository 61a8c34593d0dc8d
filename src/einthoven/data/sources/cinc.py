"""Records of the PhysioNet/CinC Challenges 2020 and 2021 as a source: a folder tree of .hea and .mat files."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.sources.labels import Labels, indicators, label_matrix, read_database, shared_classes
from einthoven.data.sources.saved_folds import SavedFolds, reserve_file
from einthoven.data.sources.snomed import (
    LABEL_SETS,
    annotated,
    class_of_statement,
    classes_of,
    diagnoses,
    parse_diagnoses,
)
from einthoven.data.sources.source_state import SourceState, known_state, open_source, own_options
from einthoven.data.store.packed_store import Store
from einthoven.data.store.packing import Progress
from einthoven.data.store.plan import Plan
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd

ORIGINS = ("ptbxl", "cpsc2018", "cpsc2018_extra", "st_petersburg", "ptb", "georgia", "chapman_shaoxing", "ningbo")
"""The databases of the challenge. The position in this tuple is the number of millions in the ecg_id of a record."""

# These databases have several records per patient, but the files do not name the patient.
PATIENTS_UNKNOWN = ("st_petersburg", "ptb")
# JS records up to this number are from Chapman-Shaoxing, later ones from Ningbo. No header contains this. Public
# projects with both folders use this limit, for example the reader of torch_ecg.
LAST_CHAPMAN = 10646

_NAME = re.compile(r"^(HR|JS|A|Q|I|S|E)(\d{1,6})$")
_PREFIX = {"HR": "ptbxl", "A": "cpsc2018", "Q": "cpsc2018_extra", "I": "st_petersburg", "S": "ptb", "E": "georgia"}
_SEX = {"male": 0.0, "m": 0.0, "female": 1.0, "f": 1.0}  # the numbers of PTB-XL


@dataclass(frozen=True)
class CinC2021:
    """A folder tree of records of the PhysioNet/CinC Challenges 2020 and 2021.

    Parameters
    ----------
    root : path
        Folder that is searched with all its subfolders for ``.hea`` files.
    fs : float
        Sampling frequency of the store in Hz; records with another sampling frequency are resampled.
    cache : path
        Folder for the packed store.
    only : sequence of str or None
        Databases to use, from `ORIGINS`; None: all databases in the folder.
    ptbxl : path or None
        Folder with ``ptbxl_database.csv`` of PTB-XL. The HR records are records of PTB-XL, and their patients and
        folds are read from that table.
    fold_file : path or None
        File for the folds of the other records, relative to `root`; None: ``folds.csv`` there, or a file in the cache
        if the folder cannot be written.
    leads : sequence of str
        Leads to keep, in this order.
    seconds, long, short, stride, on_error
        As in `einthoven.data.store.plan.Plan`.

    References
    ----------
    Reyna et al., "Will two do? Varying dimensions in electrocardiography: the PhysioNet/Computing in Cardiology
    Challenge 2021", Computing in Cardiology 2021.
    """

    root: str | Path
    fs: float
    cache: str | Path
    only: Sequence[str] | None = None
    ptbxl: str | Path | None = None
    fold_file: str | Path | None = None
    leads: Sequence[str] = LEADS
    seconds: float | None = 10.0
    long: str = "crop"
    short: str = "pad"
    stride: float | None = None
    on_error: str = "fail"

    label_sets = LABEL_SETS
    label_options = ()

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the packed store of these records (or of one shard of them); build it on first use.

        `check` is as in `source_state.open_source`. The diagnoses are in the headers. Without `check`, added and
        removed records are noticed, but a changed header is not.

        Raises
        ------
        UserError
            If there are no records, if one is not from the challenge or cannot be read, or if the table of PTB-XL is
            needed.
        """
        if self.only is not None and not self.only:
            raise UserError(f"data.only=[]: expected some of {', '.join(ORIGINS)}, or null.")
        return open_source(self._state, self._plan, Path(self.cache), progress, shard, check)

    def state(self) -> Hashable | None:
        """Return what store and labels follow from, as `einthoven.data.sources.source_state.state_of` needs it."""
        return known_state(self._state, Path(self.cache))

    def _state(self) -> SourceState:
        root = Path(self.root)
        names = []
        for folder, _, files in os.walk(root):
            # Functions of `os.path` are faster than `Path`, which matters for 100,000 records.
            headers = [os.path.join(folder, name) for name in files if name.endswith(".hea")]  # noqa: PTH118
            names += [os.path.relpath(header, root) for header in headers]
        tables = [] if self.ptbxl is None else [Path(self.ptbxl) / "ptbxl_database.csv"]
        folds = self._saved_folds.files
        return SourceState.read(root, own_options(self), tables=tables, names=sorted(names), folds=folds)

    def _plan(self) -> Plan:
        headers = self._headers()
        table, notes = self._table(headers)
        return Plan.from_source(self, [header.with_suffix("") for header in headers], table, notes=notes)

    def positives(self, table: pd.DataFrame, task: str, min_likelihood: float = 0.0) -> list[set[str]]:
        """Return the positive classes of each record in the table of a store."""
        if min_likelihood:
            raise UserError(f"task.min_likelihood={min_likelihood}: these diagnoses have no likelihood; expected 0.")
        return [classes_of(tuple(dx.split()), task) for dx in table["dx"]]

    def annotates(self, table: pd.DataFrame, task: str) -> dict[str, frozenset[str]]:
        """Return the classes that each database in the table of a store annotates."""
        return {origin: annotated(task, origin) for origin in sorted(table["source"].unique())}

    def class_of(self, task: str) -> dict[str, str]:
        """Return the class of each SCP-ECG statement, as in `einthoven.data.sources.labels.Labels`."""
        return class_of_statement(task)

    def labels(self, table: pd.DataFrame, task: str, *, min_likelihood: float = 0.0, **options: bool) -> Labels:
        """Return the labels of a table on the classes that all of its databases annotate; options of `label_matrix`."""
        shared, notes_on_classes = shared_classes(self.annotates(table, task))
        notes = [f"{note}; data.only=[…] chooses the databases" for note in notes_on_classes]
        codes = {code for dx in table["dx"] for code in dx.split()}
        unknown = sorted(codes - set(diagnoses()))
        if unknown:
            notes.append(
                f"codes that the challenge does not define and that are ignored: {len(unknown)} ({unknown[0]} …)"
            )
        notes += self._saved_folds.notes()
        positives = [classes & shared for classes in self.positives(table, task, min_likelihood)]
        return label_matrix(table, positives, task, class_of=self.class_of(task), notes=tuple(notes), **options)

    @property
    def _saved_folds(self) -> SavedFolds:
        root = Path(self.root)
        file = root / (self.fold_file or "folds.csv")
        reserve = None if self.fold_file else reserve_file(root, self.cache)
        return SavedFolds(file, reserve, "record", root.resolve().name, is_whole=False)

    def _headers(self) -> list[Path]:
        """Return the headers of the records, sorted by name."""
        root = Path(self.root)
        if not root.is_dir():
            raise UserError(f"data.root={root}: no such folder; expected one with .hea and .mat files in it.")
        unknown = sorted(set(self.only or ()) - set(ORIGINS))
        if unknown:
            raise UserError(f"data.only: {unknown[0]!r} is unknown; expected some of {', '.join(ORIGINS)}.")
        headers: dict[str, Path] = {}
        for header in sorted(root.rglob("*.hea"), key=lambda file: file.name):
            if header.stem in headers:
                raise UserError(f"{header}: a record of this name is also in {headers[header.stem].parent}.")
            if self.only is None or origin_of(header)[0] in self.only:
                headers[header.stem] = header
        if not headers:
            databases = "" if self.only is None else f" of {', '.join(self.only)}"
            raise UserError(f"data.root={root}: no record{databases} found; expected .hea and .mat files.")
        return list(headers.values())

    def _table(self, headers: Sequence[Path]) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Return the table of a plan, and notes about folds that were saved."""
        import pandas as pd

        origins, numbers = zip(*map(origin_of, headers), strict=True)
        comments = [read_comments(header) for header in headers]
        dx = [
            parse_diagnoses(comment.get("dx", ""), file.name) for comment, file in zip(comments, headers, strict=True)
        ]
        millions = [ORIGINS.index(origin) * 10**6 for origin in origins]
        ecg_id = np.array(millions, np.int64) + np.array(numbers, np.int64)
        source = np.array(origins, dtype=object)
        name = pd.Series([header.stem for header in headers], dtype=str)

        # Each record is a patient of its own. Only where patients are unknown, all records are one patient: then no
        # patient can be in two folds. These records are in fold 1.
        patient_id = ecg_id.copy()
        strat_fold = np.ones(len(headers), np.int64)
        for origin in PATIENTS_UNKNOWN:
            patient_id[source == origin] = ORIGINS.index(origin) * 10**6

        # The other databases get stratified folds, but PTB-XL has its own patients and folds.
        notes: tuple[str, ...] = ()
        stratified = np.flatnonzero(~np.isin(source, (*PATIENTS_UNKNOWN, "ptbxl")))
        if len(stratified):
            matrix, _ = indicators([dx[row] for row in stratified])
            folds, notes = self._saved_folds.folds(name.iloc[stratified], matrix, patient_id[stratified])
            strat_fold[stratified] = folds
        is_ptbxl = source == "ptbxl"
        if is_ptbxl.any():
            patient_id[is_ptbxl], strat_fold[is_ptbxl] = self._ptbxl(ecg_id[is_ptbxl])

        table = pd.DataFrame(
            {
                "ecg_id": ecg_id,
                "patient_id": patient_id,
                "strat_fold": strat_fold,
                "source": origins,
                "name": name,
                "dx": [" ".join(codes) for codes in dx],
                "age": [_number(comment.get("age", "")) for comment in comments],
                "sex": [_SEX.get(comment.get("sex", "").lower(), np.nan) for comment in comments],
            }
        )
        return table, notes

    def _ptbxl(self, ecg_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return patient and fold of records of PTB-XL."""
        if self.ptbxl is None:
            raise UserError(
                f"HR{ecg_ids[0]:05d} and {len(ecg_ids) - 1} more are records of PTB-XL: data.ptbxl=FOLDER names "
                "the folder of ptbxl_database.csv with their patients and folds; data.only=[…] can leave them out."
            )
        table = read_database(Path(self.ptbxl) / "ptbxl_database.csv").set_index("ecg_id")
        missing = ecg_ids[~np.isin(ecg_ids, table.index)]
        if len(missing):
            raise UserError(
                f"HR{missing[0]:05d}: no row of {self.ptbxl}/ptbxl_database.csv; expected ecg_id {missing[0]} there."
            )
        rows = table.loc[ecg_ids]
        return rows["patient_id"].to_numpy(np.int64), rows["strat_fold"].to_numpy(np.int64)


def origin_of(header: Path) -> tuple[str, int]:
    """Return the database of a record and its number there; both follow from its name."""
    match = _NAME.match(header.stem)
    if match is None:
        raise UserError(
            f"{header}: not a record of the challenge; expected A, Q, I, S, HR, E or JS and a number "
            "(data=folder takes any names)."
        )
    number = int(match[2])
    if match[1] == "JS":
        return ("chapman_shaoxing" if number <= LAST_CHAPMAN else "ningbo"), number
    return _PREFIX[match[1]], number


def read_comments(header: Path) -> dict[str, str]:
    """Return the ``#Key: value`` lines of a header, keys in lower case."""
    try:
        lines = header.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{header}: cannot be read ({error.strerror}); expected a WFDB header.") from None
    comments = {}
    for line in lines:
        if line.startswith("#"):
            key, _, value = line.lstrip("# ").partition(":")
            comments[key.strip().lower()] = value.strip()
    return comments


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
