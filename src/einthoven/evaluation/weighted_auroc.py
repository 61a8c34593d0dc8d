"""AUROCs of resampled records. The scores are sorted only once for all resamples.

A resample of n records is a vector of n counts. The positives of a class have the distinct scores ``s_1 < ... < s_L``,
which are called levels. A pair of a positive and a negative is won if the positive has the higher score. Ties count one
half. The number of pairs that the positives at level j win is

    ``P_j U_j``,  ``U_j = sum over i <= j of D_i``.

``P_j`` is the count of positives at level j. ``D_i`` is the count of negatives that level i adds: the negatives between
level i-1 and level i, half of the negatives tied with level i, and half of the negatives tied with level i-1.

P and D are linear functions of the counts. Their coefficients are 0, 1/2 and 1 and do not depend on the resample. So
two sparse matrices compute the AUROCs of any batch of resamples. All intermediate values are multiples of one half,
which float64 represents exactly. So the result equals the AUROC of the repeated records.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from einthoven.evaluation.metrics import BoolArray, FloatArray, IntArray


class WeightedAUROC:
    """AUROC of every class as a function of the weights of the records.

    Parameters
    ----------
    positive : array of bool, shape (n, K)
        Labels. Each class has both labels.
    scores : array of float64, shape (n, K)
        Scores, higher for positive.
    """

    def __init__(self, positive: BoolArray, scores: FloatArray) -> None:
        # The work per resample grows with the number of distinct positive scores. So the rarer label becomes the
        # positive one. The AUROC does not change if the labels and the sign of the scores are both inverted.
        is_inverted = positive.mean(axis=0) > 0.5
        positive = positive ^ is_inverted
        scores = np.where(is_inverted, -scores, scores)
        self.label = positive.astype(np.float64)

        # The rows of all classes are stacked in one matrix. `first_row[k]` is the first row of class k.
        sizes = []
        p_entries = []
        d_entries = []
        for k in range(positive.shape[1]):
            num_levels, p_entries_of_class, d_entries_of_class = _matrix_entries(positive[:, k], scores[:, k])
            sizes.append(num_levels)
            p_entries.append(p_entries_of_class)
            d_entries.append(d_entries_of_class)
        self.first_row = np.concatenate([[0], np.cumsum(sizes)])
        n = len(positive)
        self.p_matrix = _stack(p_entries, self.first_row, n)
        self.d_matrix = _stack(d_entries, self.first_row, n)

    def __call__(self, counts: FloatArray) -> FloatArray:
        """Compute the AUROC of each resample and class: counts (B, n) -> (B, K). It is nan if a label is missing."""
        by_record = np.ascontiguousarray(counts.T)
        p: FloatArray = self.p_matrix @ by_record
        d: FloatArray = self.d_matrix @ by_record
        positives = (counts @ self.label).T
        wins = np.empty_like(positives)
        for k, (start, stop) in enumerate(pairwise(self.first_row)):
            # The cumulative sum turns D into U. It is computed in place to save memory.
            u = d[start:stop]
            np.cumsum(u, axis=0, out=u)
            np.einsum("lb,lb->b", p[start:stop], u, out=wins[k])
        pairs = positives * (counts.sum(axis=1) - positives)
        auroc = np.full(pairs.shape, np.nan)
        np.divide(wins, pairs, out=auroc, where=pairs > 0)
        return auroc.T


_Entries = tuple[IntArray, IntArray, FloatArray]
"""Entries of a sparse matrix: row (level), column (record) and coefficient."""


def _matrix_entries(positive: BoolArray, scores: FloatArray) -> tuple[int, _Entries, _Entries]:
    """Return the number of levels of one class, and the entries of its rows in the matrices of P and D."""
    levels, level_of_positive = np.unique(scores[positive], return_inverse=True)
    positive_rows = np.flatnonzero(positive)
    negative_rows = np.flatnonzero(~positive)
    p_entries = (level_of_positive.reshape(-1), positive_rows, np.ones(len(positive_rows)))

    # Find the lowest level that is not below each negative. A negative above all levels loses no pair.
    level = np.searchsorted(levels, scores[negative_rows])
    loses_a_pair = level < len(levels)
    level = level[loses_a_pair]
    negative_rows = negative_rows[loses_a_pair]

    # A tied negative adds one half to its own level and one half to the next level, if there is one.
    is_tied = levels[level] == scores[negative_rows]
    has_next = is_tied & (level + 1 < len(levels))
    rows = np.concatenate([level, level[has_next] + 1])
    columns = np.concatenate([negative_rows, negative_rows[has_next]])
    values = np.concatenate([np.where(is_tied, 0.5, 1.0), np.full(int(has_next.sum()), 0.5)])
    return len(levels), p_entries, (rows, columns, values)


def _stack(entries_of_class: list[_Entries], first_row: IntArray, n: int) -> Any:
    """Build one CSR matrix (rows, n) from the entries of all classes."""
    from scipy.sparse import csr_array

    rows = []
    columns = []
    values = []
    for entries, start in zip(entries_of_class, first_row[:-1], strict=True):
        rows.append(entries[0] + start)
        columns.append(entries[1])
        values.append(entries[2])
    index = (np.concatenate(rows), np.concatenate(columns))
    return csr_array((np.concatenate(values), index), shape=(int(first_row[-1]), n))
