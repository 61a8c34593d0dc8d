"""Folds by patient with the same class frequencies in each fold: iterative stratification."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_folds(
    labels: NDArray[np.integer] | NDArray[np.bool_],
    patients: NDArray[np.int64],
    *,
    folds: int = 10,
    known: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Put each patient into one fold: rare classes first, each patient into the fold that lacks this class most.

    The result depends on the patients, their labels and the known folds. It does not depend on the order of
    the records.

    Parameters
    ----------
    labels : ndarray of 0 and 1, shape (n, K)
    patients : ndarray of int64, shape (n,)
        Records of one patient stay together.
    folds : int
        Number of folds.
    known : ndarray of int64, shape (n,), optional
        Fold of each record whose patient already has one, from 1; 0 for the others. Only the others are assigned.

    Returns
    -------
    ndarray of int64, shape (n,)
        Fold of each record, from 1 to `folds`.

    References
    ----------
    Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011, algorithm 1. Here,
    patients take the place of records, and patients with most positives of a class come first.
    """
    rng = np.random.default_rng(0)
    _, group = np.unique(patients, return_inverse=True)
    sizes = np.bincount(group)
    # Positive records of each patient and class, (patients, K). Without classes, one column of zeros takes their place.
    columns = [np.bincount(group, column, len(sizes)) for column in np.asarray(labels).T]
    counts = np.rint(np.stack(columns or [sizes * 0])).astype(np.int64).T
    # The positives and records that each fold still lacks, times the number of folds. These are whole numbers, so that
    # ties are exact.
    lacking = np.tile(counts.sum(axis=0), (folds, 1))
    lacking_size = np.full(folds, sizes.sum())
    order = rng.permutation(len(sizes))
    preference = rng.permutation(folds)
    fold = np.full(len(sizes), -1)
    rarity = np.zeros_like(counts.sum(axis=0))

    if known is not None:
        # Subtract the patients that the folds already have.
        fold[group] = known - 1
        settled = np.flatnonzero(fold >= 0)
        np.subtract.at(lacking, fold[settled], folds * counts[settled])
        np.subtract.at(lacking_size, fold[settled], folds * sizes[settled])
        # A few new patients do not show which class is rare. If classes are equally rare among the new patients, the
        # class that is rarest among all patients comes first.
        rarity = counts.sum(axis=0)

    def assign(members: NDArray[np.intp], lack: NDArray[np.int64]) -> None:
        for patient in members.tolist():
            best = max(preference.tolist(), key=lambda k: (lack[k], lacking_size[k]))
            fold[patient] = best
            lacking[best] -= folds * counts[patient]
            lacking_size[best] -= folds * sizes[patient]

    # Assign the patients of the rarest remaining class, then those of the next one, and so on.
    remaining = counts[fold < 0].sum(axis=0)
    while (remaining > 0).any():
        frequency = np.where(remaining > 0, remaining, remaining.max() + 1)
        rarest = int(np.lexsort((rarity, frequency))[0])
        members = order[(fold[order] < 0) & (counts[order, rarest] > 0)]
        members = members[np.argsort(-counts[members, rarest], kind="stable")]
        # `lacking[:, rarest]` is a view: it decreases while patients are assigned.
        assign(members, lacking[:, rarest])
        remaining = remaining - counts[members].sum(axis=0)

    # The patients without a class only balance the sizes of the folds.
    unlabelled = order[fold[order] < 0]
    assign(unlabelled[np.argsort(-sizes[unlabelled], kind="stable")], np.zeros(folds, dtype=np.int64))
    return fold[group] + 1
