"""Folds by patient in which every class is as frequent as in the whole: iterative stratification."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified_folds(
    labels: NDArray[np.integer] | NDArray[np.bool_], patients: NDArray[np.int64], *, folds: int = 10, seed: int = 0
) -> NDArray[np.int64]:
    """Put each patient into one fold, rare classes first, each into the fold that lacks its class most.

    A function of who the patients are, what their records show and the seed: the order of the records does not matter.

    Parameters
    ----------
    labels : ndarray of 0 and 1, shape (n, K)
    patients : ndarray of int64, shape (n,)
        Records of one patient stay together.
    folds : int
        How many.
    seed : int

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

    def assign(members: NDArray[np.intp], lack: NDArray[np.int64]) -> None:
        for patient in members.tolist():
            best = max(preference.tolist(), key=lambda k: (lack[k], lacking_size[k]))
            fold[patient] = best
            lacking[best] -= folds * counts[patient]
            lacking_size[best] -= folds * sizes[patient]

    left = counts.sum(axis=0)
    while (left > 0).any():
        rarest = int(np.where(left > 0, left, left.max() + 1).argmin())
        members = order[(fold[order] < 0) & (counts[order, rarest] > 0)]
        members = members[np.argsort(-counts[members, rarest], kind="stable")]
        assign(members, lacking[:, rarest])  # a view: it falls as patients are assigned
        left = left - counts[members].sum(axis=0)
    unlabelled = order[fold[order] < 0]
    assign(unlabelled[np.argsort(-sizes[unlabelled], kind="stable")], np.zeros(folds, dtype=np.int64))
    return fold[group] + 1
