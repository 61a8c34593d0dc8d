"""Folds -> train, validation and test rows; no fold and no patient in two of them."""

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
    """Rows of `labels` in each split.

    Parameters
    ----------
    labels : Labels
    folds : mapping of "train", "val", "test" to lists of fold numbers
        A split whose folds hold no record is empty; an empty training split is refused.
    added : ndarray of bool, shape (n,), optional
        Rows that were added after a model was trained. They are not training rows, and they are left out where their
        patient is known in another split.

    Returns
    -------
    dict of str to ndarray of int64
        Row numbers, ascending.

    Raises
    ------
    UserError
        If two splits share a fold or a patient, or nothing is left to train on.
    """
    for a, b in combinations(SPLITS, 2):
        if shared := sorted(set(folds[a]) & set(folds[b])):
            raise UserError(f"data.folds: fold {shared[0]} is in both {a} and {b}; a fold belongs to one split.")
    rows = {name: np.flatnonzero(np.isin(labels.folds, list(folds[name]))) for name in SPLITS}
    if added is not None:
        rows = _with_added(rows, labels.patients, added)
    for a, b in combinations(SPLITS, 2):
        shared_patients = np.intersect1d(labels.patients[rows[a]], labels.patients[rows[b]])
        if shared_patients.size:
            raise UserError(
                f"patient {shared_patients[0]} (and {shared_patients.size - 1} more) has records in both {a} and {b}; "
                "folds must keep a patient's records together."
            )
    if rows["train"].size == 0:
        present = sorted(set(labels.folds.tolist()))
        raise UserError(f"data.folds.train={list(folds['train'])} holds no labelled record; folds present: {present}.")
    return rows


def _with_added(
    rows: Mapping[str, NDArray[np.int64]], patients: NDArray[np.int64], added: NDArray[np.bool_]
) -> dict[str, NDArray[np.int64]]:
    """Those of the added rows that may stay in their split, and all others."""
    known = {name: own[~added[own]] for name, own in rows.items()}
    chosen = {"train": known["train"]}
    for name in ("val", "test"):
        own = rows[name]
        elsewhere = np.concatenate([patients[known[other]] for other in SPLITS if other != name])
        chosen[name] = own[~(added[own] & np.isin(patients[own], elsewhere))]
    return chosen
