"""Records of the PhysioNet/CinC Challenges 2020 and 2021 as a source: a folder tree of .hea and .mat files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
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
from einthoven.data.sources.source_state import SourceState, open_source, own_options
from einthoven.data.store.packed_store import Progress, Store
from einthoven.data.store.plan import Plan
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd

ORIGINS = ("ptbxl", "cpsc2018", "cpsc2018_extra", "st_petersburg", "ptb", "georgia", "chapman_shaoxing", "ningbo")
"""The databases behind the challenge, in the order of their record numbers: millions of the ecg_id."""

PATIENTS_UNKNOWN = ("st_petersburg", "ptb")  # several records of a patient, and the files do not say which
# JS records up to this one are of Chapman-Shaoxing, those beyond of Ningbo; no header says so: it is the border that
# public projects with both folders state (the reader of torch_ecg among them)
CHAPMAN = 10646

_NAME = re.compile(r"^(HR|JS|A|Q|I|S|E)(\d{1,6})$")
_PREFIX = {"HR": "ptbxl", "A": "cpsc2018", "Q": "cpsc2018_extra", "I": "st_petersburg", "S": "ptb", "E": "georgia"}
_SEX = {"male": 0.0, "m": 0.0, "female": 1.0, "f": 1.0}  # as PTB-XL counts them


@dataclass(frozen=True)
class CinC2021:
    """A folder tree of records of the PhysioNet/CinC Challenges 2020 and 2021.

    Parameters
    ----------
    root : path
        Searched with all its folders for ``.hea`` files.
    fs : float
        Sampling frequency of the store in Hz; records of another are resampled.
    cache : path
        Where the packed store is kept.
    only : sequence of str or None
        Databases to take, among `ORIGINS`; None: all that are there.
    ptbxl : path or None
        Folder with PTB-XL's ``ptbxl_database.csv``. The HR records are PTB-XL's, and their patients and folds are
        what that table says.
    fold_file : path or None
        Where the folds of the other records are saved, relative to `root`; None: ``folds.csv`` there, or in the cache
        where the folder cannot be written.
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

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the packed store of these records (or of one shard of them), building it on first use.

        `check` is as in `source_state.open_source`. The diagnoses stand in the headers: without it,
        records that were added or removed are noticed, a header that was edited is not.

        Raises
        ------
        UserError
            If there are no records, one is not of the challenge or cannot be read, or PTB-XL's table is needed.
        """
        if self.only is not None and not self.only:
            raise UserError(f"data.only=[]: expected some of {', '.join(ORIGINS)}, or null.")
        return open_source(self._state, self._plan, Path(self.cache), progress, shard, check)

    def _state(self) -> SourceState:
        root = Path(self.root)
        names = sorted(
            os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118 (of each record)
            for folder, _, files in os.walk(root)
            for name in files
            if name.endswith(".hea")
        )
        tables = [] if self.ptbxl is None else [Path(self.ptbxl) / "ptbxl_database.csv"]
        saved = self._saved_folds
        folds = [file for file in (saved.file, saved.reserve) if file]
        return SourceState.of(root, own_options(self), tables=tables, names=names, folds=folds)

    def _plan(self) -> Plan:
        files = self._files()
        table, notes = self._table(files)
        return Plan(
            name=Path(self.root).resolve().name,
            files=[file.with_suffix("") for file in files],
            table=table,
            notes=notes,
            fs=self.fs,
            leads=self.leads,
            seconds=self.seconds,
            long=self.long,
            short=self.short,
            stride=self.stride,
            on_error=self.on_error,
        )

    def positives(self, table: pd.DataFrame, task: str, min_likelihood: float = 0.0) -> list[set[str]]:
        """Classes that each record of a store's table is positive for."""
        if min_likelihood:
            raise UserError(f"task.min_likelihood={min_likelihood}: these diagnoses have no likelihood; expected 0.")
        return [classes_of(tuple(dx.split()), task) for dx in table["dx"]]

    def annotates(self, table: pd.DataFrame, task: str) -> dict[str, frozenset[str]]:
        """Classes that each database in a store's table says something about."""
        return {origin: annotated(task, origin) for origin in sorted(table["source"].unique())}

    def class_of(self, task: str) -> dict[str, str]:
        """Class of each SCP-ECG statement, as in `einthoven.data.sources.labels.Labels`."""
        return class_of_statement(task)

    def labels(self, table: pd.DataFrame, task: str, *, min_likelihood: float = 0.0, **options: bool) -> Labels:
        """Labels of a store's table on the classes that all of its databases annotate; options of `label_matrix`."""
        shared, notes = shared_classes(self.annotates(table, task))
        notes = tuple(f"{note}; data.only=[…] chooses the databases" for note in notes)
        unknown = sorted({code for dx in table["dx"] for code in dx.split()} - set(diagnoses()))
        if unknown:
            notes += (f"{len(unknown)} codes belong to no class, being unknown to the challenge: {unknown[0]} …",)
        notes += self._saved_folds.note()
        positives = [found & shared for found in self.positives(table, task, min_likelihood)]
        return label_matrix(table, positives, task, class_of=self.class_of(task), notes=notes, **options)

    @property
    def _saved_folds(self) -> SavedFolds:
        root = Path(self.root)
        file = root / (self.fold_file or "folds.csv")
        reserve = None if self.fold_file else reserve_file(root, self.cache)
        return SavedFolds(file, reserve, "record", root.resolve().name, whole=False)

    def _files(self) -> list[Path]:
        root = Path(self.root)
        if not root.is_dir():
            raise UserError(f"data.root={root}: no such folder; expected one with .hea and .mat files in it.")
        if unknown := sorted(set(self.only or ()) - set(ORIGINS)):
            raise UserError(f"data.only: {unknown[0]!r} is unknown; expected some of {', '.join(ORIGINS)}.")
        found: dict[str, Path] = {}
        for file in sorted(root.rglob("*.hea"), key=lambda file: file.name):
            if file.stem in found:
                raise UserError(f"{file}: a record of this name is also in {found[file.stem].parent}.")
            if self.only is None or _origin(file)[0] in self.only:
                found[file.stem] = file
        if not found:
            of = "" if self.only is None else f" of {', '.join(self.only)}"
            raise UserError(f"data.root={root}: no record{of} found; expected .hea and .mat files.")
        return list(found.values())

    def _table(self, files: Sequence[Path]) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """The table of a plan, and what was saved to make it."""
        import pandas as pd

        origins, numbers = zip(*map(_origin, files), strict=True)
        notes = [_comments(file) for file in files]
        dx = [parse_diagnoses(note.get("dx", ""), file.name) for note, file in zip(notes, files, strict=True)]
        ecg_id = np.array([ORIGINS.index(o) * 10**6 + n for o, n in zip(origins, numbers, strict=True)], np.int64)
        source = np.array(origins, dtype=object)
        patient_id, strat_fold = ecg_id.copy(), np.ones(len(files), np.int64)
        for origin in PATIENTS_UNKNOWN:
            patient_id[source == origin] = ORIGINS.index(origin) * 10**6
        name = pd.Series([file.stem for file in files], dtype=str)
        saving: tuple[str, ...] = ()
        free = np.flatnonzero(~np.isin(source, (*PATIENTS_UNKNOWN, "ptbxl")))
        if len(free):
            matrix, _ = indicators([dx[row] for row in free])
            strat_fold[free], saving = self._saved_folds.folds(name.iloc[free], matrix, patient_id[free])
        if (ours := source == "ptbxl").any():
            patient_id[ours], strat_fold[ours] = self._ptbxl(ecg_id[ours])
        table = pd.DataFrame(
            {
                "ecg_id": ecg_id,
                "patient_id": patient_id,
                "strat_fold": strat_fold,
                "source": origins,
                "name": name,
                "dx": [" ".join(codes) for codes in dx],
                "age": [_number(note.get("age", "")) for note in notes],
                "sex": [_SEX.get(note.get("sex", "").lower(), np.nan) for note in notes],
            }
        )
        return table, saving

    def _ptbxl(self, ecg_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Patient and fold of records of PTB-XL."""
        if self.ptbxl is None:
            raise UserError(
                f"HR{ecg_ids[0]:05d} and {len(ecg_ids) - 1} more are records of PTB-XL: data.ptbxl=FOLDER, with "
                "ptbxl_database.csv in it, says their patients and folds; data.only=[…] may leave them out."
            )
        table = read_database(Path(self.ptbxl) / "ptbxl_database.csv").set_index("ecg_id")
        if (missing := ~np.isin(ecg_ids, table.index)).any():
            raise UserError(
                f"HR{ecg_ids[missing][0]:05d}: no row of {self.ptbxl}/ptbxl_database.csv; expected ecg_id "
                f"{ecg_ids[missing][0]} there."
            )
        rows = table.loc[ecg_ids]
        return rows["patient_id"].to_numpy(np.int64), rows["strat_fold"].to_numpy(np.int64)


def _origin(file: Path) -> tuple[str, int]:
    """Database of a record, by its name, and its number there."""
    match = _NAME.match(file.stem)
    if match is None:
        raise UserError(
            f"{file}: not a record of the challenge; expected A, Q, I, S, HR, E or JS and a number "
            "(data=folder takes any names)."
        )
    number = int(match[2])
    return _PREFIX.get(match[1], "chapman_shaoxing" if number <= CHAPMAN else "ningbo"), number


def _comments(file: Path) -> dict[str, str]:
    """``#Key: value`` lines of a header, keys in lower case."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); expected a WFDB header.") from None
    pairs = (line.lstrip("# ").partition(":") for line in lines if line.startswith("#"))
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
