"""Folds that stay: they are stratified once and saved, and a patient keeps the fold.

The file is a CSV of two columns: the name of a patient (or of a record, where patients are not known), as the table of
labels has it, and the number of the fold. A name stays in the file when its records leave the table.
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
    """Where the folds of a table are saved.

    Parameters
    ----------
    file : Path
        Beside the table, where everyone who uses the table finds it.
    reserve : Path or None
        A file in the cache, for a table whose folder cannot be written. None: that is an error.
    column : str
        Name of the first column: what the folds are by.
    table : str
        Name of the table, for sentences.
    whole : bool
        The names of each call are those of the whole table, not of a selection from it.
    """

    file: Path
    reserve: Path | None
    column: str
    table: str
    whole: bool = True

    def folds(
        self, names: pd.Series[str], labels: NDArray[np.uint8], patients: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Fold of each record: the saved one, or a new one that is saved.

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
            From 1 to 10.
        notes : tuple of str
            What was saved, if anything was.

        Raises
        ------
        UserError
            If a file of folds is damaged, is of another table, or contradicts the other; if none can be written.
        """
        saved = self._read()
        self._check_same_table(saved, names)
        if not names.isin(saved.index).all():
            return self._extend(names, labels, patients)
        return _numbers(saved, names), ()

    def note(self) -> tuple[str, ...]:
        """A sentence where the folds are in the cache, as long as they are."""
        if self.reserve is None or self.file.exists() or not self.reserve.exists():
            return ()
        return (
            f"folds are saved in the cache (folds/{self.reserve.name}), as the folder of {self.table} cannot be "
            f"written; another cache has other folds unless that file is copied to {self.file.name} beside the table",
        )

    def _extend(
        self, names: pd.Series[str], labels: NDArray[np.uint8], patients: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Give the new names folds, and save them in the first place that can be written."""
        import filelock

        reasons = []
        for place in filter(None, (self.file, self.reserve)):
            try:
                _check_writable(place)
                with filelock.FileLock(place.with_name(f".{place.name}.lock")):
                    saved = self._read()  # another process may have been first
                    folds, added = _folds_of(names, saved, labels, patients)
                    self._write(place, added)
            except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
                reasons.append(f"{place}: {getattr(error, 'strerror', None) or error}")
                continue
            if place == self.file and self.reserve is not None:
                with contextlib.suppress(OSError):
                    self.reserve.unlink()  # all that it held stands in the other file now
            return folds, (_told(place, self.column, len(added), len(saved)),)
        raise UserError(
            f"the folds of {self.table} cannot be saved ({'; '.join(reasons)}); data.fold_file names a file."
        )

    def _read(self) -> pd.Series[Any]:
        """The saved folds, by name, of both files."""
        import pandas as pd

        parts = {file: self._read_file(file) for file in (self.file, self.reserve) if file and file.exists()}
        if not parts:
            return pd.Series(np.empty(0, np.int64), index=pd.Index([], dtype=object))
        first, *others = parts.values()
        for other in others:
            shared = first.index.intersection(other.index)
            differ = shared[first[shared].to_numpy() != other[shared].to_numpy()]
            if len(differ):
                name = differ[0]
                raise UserError(
                    f"{self.column} {name!r} is in fold {first[name]} by {self.file} and in fold {other[name]} by "
                    f"{self.reserve}; delete the one that your runs were not trained with."
                )
            first = pd.concat([first, other[~other.index.isin(shared)]])
        return first

    def _read_file(self, file: Path) -> pd.Series[Any]:
        import pandas as pd

        advice = "restore it; without it folds are made anew, and runs on the old ones cannot be evaluated"
        rows = read_text(file, "it holds the folds of the patients")
        if list(rows) != [self.column, FOLD]:
            found = ", ".join(map(repr, rows))
            raise UserError(f"{file}: columns {found}; expected {self.column!r}, {FOLD!r}: {advice}.")
        names, cells = rows[self.column].str.strip(), rows[FOLD].str.strip()
        wrong = (names == "") | ~cells.isin([str(fold) for fold in range(1, FOLDS + 1)])
        if wrong.any():
            line = int(wrong.to_numpy().argmax())
            raise UserError(
                f"{file}: row {line + 1} is {names[line][:40]!r}, {cells[line][:40]!r}; expected a name and a fold "
                f"from 1 to {FOLDS}: {advice}."
            )
        numbers = pd.Series(cells.to_numpy().astype(np.int64), index=names)
        if (doubled := names.duplicated()).any():
            name = names[doubled].iloc[0]
            folds = ", ".join(map(str, numbers[[name]]))
            raise UserError(f"{file}: {name[:40]!r} has several rows (folds {folds}); expected one row: {advice}.")
        return numbers

    def _check_same_table(self, saved: pd.Series[Any], names: pd.Series[str]) -> None:
        if self.whole and len(saved) and not names.isin(saved.index).any():
            raise UserError(
                f"{self.file}: none of its {len(saved)} names ({saved.index[0]!r} …) stands in the column "
                f"{self.column!r} of {self.table} ({names.iloc[0]!r} …); if that is another table now, delete the "
                "file, and folds are made anew; runs on the old ones cannot then be evaluated."
            )

    def _write(self, place: Path, folds: pd.Series[Any]) -> None:
        with atomic(place) as partial:
            folds.rename(FOLD).to_csv(partial, index_label=self.column)


def reserve_file(table: Path, cache: str | Path) -> Path:
    """Where in a cache the folds of a table, or of a folder of records, stand: two of one name are kept apart."""
    place = hashlib.sha256(os.fsencode(table.resolve())).hexdigest()[:8]
    return Path(cache) / "folds" / f"{table.stem}-{place}.csv"


def _folds_of(
    names: pd.Series[str], saved: pd.Series[Any], labels: NDArray[np.uint8], patients: NDArray[np.int64]
) -> tuple[NDArray[np.int64], pd.Series[Any]]:
    """Fold of each record, and the folds to save: the saved ones and those of new names, in the order of the table."""
    import pandas as pd

    known = _numbers(saved, names)
    if not known.any():
        folds = stratified_folds(labels, patients, folds=FOLDS)
    else:
        # Numbers in the order of the names: a tie between folds must not depend on the order of the rows.
        _, ordered = np.unique(names.to_numpy(dtype=str), return_inverse=True)
        folds = stratified_folds(labels, ordered.astype(np.int64), folds=FOLDS, known=known)
    new = (known == 0) & ~names.duplicated().to_numpy()
    added = pd.Series(folds[new], index=names[new].to_numpy())
    return folds, pd.concat([saved, added])


def _numbers(saved: pd.Series[Any], names: pd.Series[str]) -> NDArray[np.int64]:
    """Fold of each name; 0 where it has none."""
    return saved.reindex(names).fillna(0).to_numpy().astype(np.int64)


def _check_writable(file: Path) -> None:
    """Refuse what its owner has marked as read-only, also for root, who could write it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for path in (file.parent, *([file] if file.exists() else [])):
        if not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK):
            raise PermissionError(13, "read-only", str(path))


def _told(place: Path, column: str, total: int, before: int) -> str:
    if not before:
        return (
            f"{FOLDS} folds by {column!r} were made and saved in {place.name}: keep that file, and the folds stay when "
            "rows are added"
        )
    return f"{total - before} new names of {column!r} have a fold now, saved in {place.name}; the others keep theirs"
