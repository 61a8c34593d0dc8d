"""Split rows into train, validation and test by their folds. No fold and no patient is in two splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from einthoven.data.sources.labels import Labels
from einthoven.errors import UserError

SPLITS = ("train", "val", "test")


def split_rows(
    labels: Labels, folds: Mapping[str, Sequence[int]], added: NDArray[np.bool_] | None = None
) -> dict[str, NDArray[np.int64]]:
    """Return the rows of `labels` in each split.

    Parameters
    ----------
    labels : Labels
    folds : mapping of "train", "val", "test" to lists of fold numbers
        A split is empty if its folds contain no record. An empty training split is an error.
    added : ndarray of bool, shape (n,), optional
        Rows that were added after a model was trained. They are not training rows. They are left out if their patient
        is in another split.

    Returns
    -------
    dict of str to ndarray of int64
        Row numbers, ascending.

    Raises
    ------
    UserError
        If two splits share a fold or a patient, or if no training row is left.
    """
    # Each fold belongs to one split.
    for first, second in combinations(SPLITS, 2):
        shared_folds = sorted(set(folds[first]) & set(folds[second]))
        if shared_folds:
            raise UserError(
                f"data.folds: fold {shared_folds[0]} is in both {first} and {second}; a fold belongs to one split."
            )
    rows = {split: np.flatnonzero(np.isin(labels.folds, list(folds[split]))) for split in SPLITS}
    if added is not None:
        rows = _select_added(rows, labels.patients, added)
    # Each patient belongs to one split.
    for first, second in combinations(SPLITS, 2):
        shared_patients = np.intersect1d(labels.patients[rows[first]], labels.patients[rows[second]])
        if shared_patients.size:
            raise UserError(
                f"patient {shared_patients[0]} (and {shared_patients.size - 1} more) has records in both {first} and "
                f"{second}; folds must keep a patient's records together."
            )
    if rows["train"].size == 0:
        present = sorted(set(labels.folds.tolist()))
        raise UserError(f"data.folds.train={list(folds['train'])} holds no labelled record; folds present: {present}.")
    return rows


def _select_added(
    rows: Mapping[str, NDArray[np.int64]], patients: NDArray[np.int64], added: NDArray[np.bool_]
) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each split without the added rows that must not be there."""
    trained_rows = {split: split_rows[~added[split_rows]] for split, split_rows in rows.items()}
    selected = {"train": trained_rows["train"]}
    for split in ("val", "test"):
        split_rows = rows[split]
        patients_elsewhere = np.concatenate([patients[trained_rows[other]] for other in SPLITS if other != split])
        is_excluded = added[split_rows] & np.isin(patients[split_rows], patients_elsewhere)
        selected[split] = split_rows[~is_excluded]
    return selected
