"""Saved folds: they are stratified once and saved, so that a patient keeps the same fold.

The file is a CSV with two columns: the name of a patient (or of a record, if patients are unknown) as in the table of
labels, and the number of the fold. A name stays in the file when its records are removed from the table.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic
from einthoven.data.sources.stratify import stratified_folds
from einthoven.data.tables import read_text
from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 10
FOLD = "fold"  # name of the second column


@dataclass(frozen=True)
class SavedFolds:
    """The files of the saved folds of a table.

    Parameters
    ----------
    file : Path
        File next to the table, where everyone who uses the table finds it.
    reserve : Path or None
        File in the cache, for a table whose folder cannot be written. None: such a folder is an error.
    column : str
        Name of the first column, which identifies a patient or a record.
    table : str
        Name of the table, for messages.
    is_whole : bool
        Whether the names of each call are all names of the table, not a selection.
    """

    file: Path
    reserve: Path | None
    column: str
    table: str
    is_whole: bool = True

    @property
    def files(self) -> list[Path]:
        """Both files, or only the first one if there is no reserve."""
        return [self.file] if self.reserve is None else [self.file, self.reserve]

    def folds(
        self, names: pd.Series[str], labels: NDArray[np.uint8], patients: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Return the fold of each record: the saved one, or a new one that is then saved.

        Parameters
        ----------
        names : Series of str, length n
            Name of the patient of each record.
        labels : ndarray of 0 and 1, shape (n, K)
        patients : ndarray of int64, shape (n,)
            Number of the patient of each record.

        Returns
        -------
        folds : ndarray of int64, shape (n,)
            Numbers from 1 to 10.
        notes : tuple of str
            A note if new folds were saved.

        Raises
        ------
        UserError
            If a file of folds is damaged, belongs to another table, or contradicts the other file; if no file can be
            written.
        """
        saved = self._read()
        self._check_same_table(saved, names)
        if not names.isin(saved.index).all():
            return self._extend(names, labels, patients)
        return _folds_of_names(saved, names), ()

    def notes(self) -> tuple[str, ...]:
        """Return a note while the folds are saved in the cache only."""
        if self.reserve is None or self.file.exists() or not self.reserve.exists():
            return ()
        return (
            f"folds are saved in the cache (folds/{self.reserve.name}), as the folder of {self.table} cannot be "
            f"written; another cache has other folds unless that file is copied to {self.file.name} beside the table",
        )

    def _extend(
        self, names: pd.Series[str], labels: NDArray[np.uint8], patients: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Assign folds to the new names, and save them in the first file that can be written."""
        import filelock

        reasons = []
        for file in self.files:
            try:
                _check_writable(file)
                with filelock.FileLock(file.with_name(f".{file.name}.lock")):
                    # Another process may have added folds before this one got the lock.
                    saved = self._read()
                    folds, all_folds = _assign_folds(names, saved, labels, patients)
                    with atomic(file) as partial:
                        all_folds.rename(FOLD).to_csv(partial, index_label=self.column)
            except (OSError, NotImplementedError) as error:
                # NotImplementedError: a file system without locks.
                reasons.append(f"{file}: {getattr(error, 'strerror', None) or error}")
                continue
            # The file next to the table now contains all folds of the reserve.
            if file == self.file and self.reserve is not None:
                with contextlib.suppress(OSError):
                    self.reserve.unlink()
            if len(saved):
                note = (
                    f"{len(all_folds) - len(saved)} new names of {self.column!r} have a fold now, saved in "
                    f"{file.name}; the others keep theirs"
                )
            else:
                note = (
                    f"{FOLDS} folds by {self.column!r} were made and saved in {file.name}: keep that file, so that "
                    "the folds stay the same when rows are added"
                )
            return folds, (note,)
        raise UserError(
            f"the folds of {self.table} cannot be saved ({'; '.join(reasons)}); data.fold_file names a file."
        )

    def _read(self) -> pd.Series[Any]:
        """Return the saved folds of both files, by name."""
        import pandas as pd

        parts = [self._read_file(file) for file in self.files if file.exists()]
        if not parts:
            return pd.Series(np.empty(0, np.int64), index=pd.Index([], dtype=object))
        if len(parts) == 1:
            return parts[0]
        first, other = parts
        shared = first.index.intersection(other.index)
        contradictory = shared[first[shared].to_numpy() != other[shared].to_numpy()]
        if len(contradictory):
            name = contradictory[0]
            raise UserError(
                f"{self.column} {name!r} is in fold {first[name]} by {self.file} and in fold {other[name]} by "
                f"{self.reserve}; delete the one that your runs were not trained with."
            )
        return pd.concat([first, other[~other.index.isin(shared)]])

    def _read_file(self, file: Path) -> pd.Series[Any]:
        """Return the folds of one file, by name."""
        import pandas as pd

        advice = "restore it; without it folds are made anew, and runs on the old ones cannot be evaluated"
        rows = read_text(file, "it holds the folds of the patients")
        if list(rows) != [self.column, FOLD]:
            columns = list(rows)
            if len(columns) == 2 and columns[1] == FOLD:
                advice = (
                    f"these folds were made by {columns[0]!r}: use the data.patient_column of that time (null: each "
                    "record is its own patient), or restore the file"
                )
            listed_columns = ", ".join(map(repr, columns))
            raise UserError(f"{file}: columns {listed_columns}; expected {self.column!r}, {FOLD!r}: {advice}.")
        names = rows[self.column].str.strip()
        cells = rows[FOLD].str.strip()
        is_wrong = (names == "") | ~cells.isin([str(fold) for fold in range(1, FOLDS + 1)])
        if is_wrong.any():
            line = int(is_wrong.to_numpy().argmax())
            raise UserError(
                f"{file}: row {line + 1} is {names[line][:40]!r}, {cells[line][:40]!r}; expected a name and a fold "
                f"from 1 to {FOLDS}: {advice}."
            )
        numbers = pd.Series(cells.to_numpy().astype(np.int64), index=names)
        is_repeated = names.duplicated()
        if is_repeated.any():
            name = names[is_repeated].iloc[0]
            folds = ", ".join(map(str, numbers[[name]]))
            raise UserError(f"{file}: {name[:40]!r} has several rows (folds {folds}); expected one row: {advice}.")
        return numbers

    def _check_same_table(self, saved: pd.Series[Any], names: pd.Series[str]) -> None:
        """Refuse a file in which no name of the table occurs: it belongs to another table."""
        if self.is_whole and len(saved) and not names.isin(saved.index).any():
            raise UserError(
                f"{self.file}: none of its {len(saved)} names ({saved.index[0]!r} …) stands in the column "
                f"{self.column!r} of {self.table} ({names.iloc[0]!r} …); if that is another table now, delete the "
                "file, and folds are made anew; runs on the old ones cannot then be evaluated."
            )


def reserve_file(table: Path, cache: str | Path) -> Path:
    """Return the file in a cache for the folds of a table or a folder; its name depends on the path of the table."""
    path_hash = hashlib.sha256(os.fsencode(table.resolve())).hexdigest()[:8]
    return Path(cache) / "folds" / f"{table.stem}-{path_hash}.csv"


def _assign_folds(
    names: pd.Series[str], saved: pd.Series[Any], labels: NDArray[np.uint8], patients: NDArray[np.int64]
) -> tuple[NDArray[np.int64], pd.Series[Any]]:
    """Return the fold of each record, and the folds to save: the saved ones, then the new ones in table order."""
    import pandas as pd

    known = _folds_of_names(saved, names)
    if not known.any():
        folds = stratified_folds(labels, patients, folds=FOLDS)
    else:
        # Number the patients in the order of their names: a tie between folds must not depend on the row order.
        _, ordered = np.unique(names.to_numpy(dtype=str), return_inverse=True)
        folds = stratified_folds(labels, ordered.astype(np.int64), folds=FOLDS, known=known)
    is_new = (known == 0) & ~names.duplicated().to_numpy()
    added = pd.Series(folds[is_new], index=names[is_new].to_numpy())
    return folds, pd.concat([saved, added])


def _folds_of_names(saved: pd.Series[Any], names: pd.Series[str]) -> NDArray[np.int64]:
    """Return the fold of each name; 0 if it has none."""
    return saved.reindex(names).fillna(0).to_numpy().astype(np.int64)


def _check_writable(file: Path) -> None:
    """Raise an error if the file or its folder is marked as read-only. This includes root, who could write it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    paths = [file.parent, file] if file.exists() else [file.parent]
    for path in paths:
        if not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK):
            raise PermissionError(13, "read-only", str(path))
