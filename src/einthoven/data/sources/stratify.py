"""Folds by patient in which every class is as frequent as in the whole: iterative stratification."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_folds(
    labels: NDArray[np.integer] | NDArray[np.bool_],
    patients: NDArray[np.int64],
    *,
    folds: int = 10,
    seed: int = 0,
    known: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Put each patient into one fold, rare classes first, each into the fold that lacks its class most.

    A function of who the patients are, what their records show, the known folds and the seed: the order of the
    records does not matter.

    Parameters
    ----------
    labels : ndarray of 0 and 1, shape (n, K)
    patients : ndarray of int64, shape (n,)
        Records of one patient stay together.
    folds : int
        How many.
    seed : int
    known : ndarray of int64, shape (n,), optional
        Fold of each record whose patient has one already, from 1; 0 for the others. Only these are assigned.

    Returns
    -------
    ndarray of int64, shape (n,)
        Fold of each record, from 1 to `folds`.

    References
    ----------
    Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011, algorithm 1; here
    with patients in place of records, those with most positives of the class first.
    """
    rng = np.random.default_rng(seed)
    _, group = np.unique(patients, return_inverse=True)
    sizes = np.bincount(group)
    counts = np.stack([np.bincount(group, column, len(sizes)) for column in np.asarray(labels).T] or [sizes * 0])
    counts = np.rint(counts).astype(np.int64).T  # (patients, K) positives
    # What each fold still lacks, times the number of folds: whole numbers, so that ties are ties.
    lacking, lacking_size = np.tile(counts.sum(axis=0), (folds, 1)), np.full(folds, sizes.sum())
    order, preference = rng.permutation(len(sizes)), rng.permutation(folds)
    fold = np.full(len(sizes), -1)
    rarity = np.zeros_like(counts.sum(axis=0))

    if known is not None:
        # A fold lacks less by what the patients that it has already bring to it.
        fold[group] = known - 1
        settled = np.flatnonzero(fold >= 0)
        np.subtract.at(lacking, fold[settled], folds * counts[settled])
        np.subtract.at(lacking_size, fold[settled], folds * sizes[settled])
        # A few new patients do not show which class is rare: of classes that are equally rare among them, the one
        # that is rarest among all patients comes first.
        rarity = counts.sum(axis=0)

    def assign(members: NDArray[np.intp], lack: NDArray[np.int64]) -> None:
        for patient in members.tolist():
            best = max(preference.tolist(), key=lambda k: (lack[k], lacking_size[k]))
            fold[patient] = best
            lacking[best] -= folds * counts[patient]
            lacking_size[best] -= folds * sizes[patient]

    left = counts[fold < 0].sum(axis=0)
    while (left > 0).any():
        rarest = int(np.lexsort((rarity, np.where(left > 0, left, left.max() + 1)))[0])
        members = order[(fold[order] < 0) & (counts[order, rarest] > 0)]
        members = members[np.argsort(-counts[members, rarest], kind="stable")]
        assign(members, lacking[:, rarest])  # a view: it falls as patients are assigned
        left = left - counts[members].sum(axis=0)
    unlabelled = order[fold[order] < 0]
    assign(unlabelled[np.argsort(-sizes[unlabelled], kind="stable")], np.zeros(folds, dtype=np.int64))
    return fold[group] + 1
