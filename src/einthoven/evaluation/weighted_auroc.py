"""AUROCs of resampled records, without sorting anything twice.

A resample of n records is a vector of n counts. For one class, let its positives have the distinct scores
``s_1 < ... < s_L``. The number of pairs that the positives at level j win, ties counted one half, is

    ``P_j U_j``,  ``U_j = sum over i <= j of D_i``,

where ``P_j`` is the count of positives at level j and ``D_i`` the count of negatives that level i adds: those
between level i-1 and level i, half of those tied with i, half of those tied with i-1. P and D are linear in
the counts, with coefficients 0, 1/2 and 1 that do not depend on the resample: two sparse matrices, made once
from one sort, turn any batch of resamples into AUROCs. All intermediate values are multiples of one half,
exact in float64, so the result is the AUROC of the repeated records and not an approximation of it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from einthoven.evaluation.metrics import BoolArray, FloatArray, IntArray


class WeightedAUROC:
    """AUROC of every class under any weights of the records, from one sort.

    Parameters
    ----------
    positive : array of bool, shape (n, K)
        Labels; each class has both.
    scores : array of float64, shape (n, K)
        Scores, higher for positive.
    """

    def __init__(self, positive: BoolArray, scores: FloatArray) -> None:
        # Work per resample grows with the number of distinct positive scores, so the rarer label plays the
        # positive: exchanging the labels and the sign of the scores leaves the AUROC as it is.
        flip = positive.mean(axis=0) > 0.5
        positive = positive ^ flip
        scores = np.where(flip, -scores, scores)
        self.label = positive.astype(np.float64)
        parts = [_levels(positive[:, k], scores[:, k]) for k in range(positive.shape[1])]
        sizes = [levels for levels, _, _ in parts]
        self.first_row = np.concatenate([[0], np.cumsum(sizes)])
        n = len(positive)
        self.positives = _stack([entries for _, entries, _ in parts], self.first_row, n)
        self.added = _stack([entries for _, _, entries in parts], self.first_row, n)

    def __call__(self, counts: FloatArray) -> FloatArray:
        """AUROC per resample and class, nan where a label is missing: counts (B, n) -> (B, K)."""
        by_record = np.ascontiguousarray(counts.T)
        at_level: FloatArray = self.positives @ by_record  # P, (rows, B)
        below: FloatArray = self.added @ by_record  # D, then U
        positives = (counts @ self.label).T
        wins = np.empty_like(positives)
        for k, (start, stop) in enumerate(pairwise(self.first_row)):
            np.cumsum(below[start:stop], axis=0, out=below[start:stop])
            np.einsum("lb,lb->b", at_level[start:stop], below[start:stop], out=wins[k])
        pairs = positives * (counts.sum(axis=1) - positives)
        auroc = np.full(pairs.shape, np.nan)
        np.divide(wins, pairs, out=auroc, where=pairs > 0)
        return auroc.T


_Entries = tuple[IntArray, IntArray, FloatArray]  # row (level), column (record), coefficient


def _levels(positive: BoolArray, scores: FloatArray) -> tuple[int, _Entries, _Entries]:
    """Count the levels of one class and list the entries of its rows of P and D."""
    levels, level_of_positive = np.unique(scores[positive], return_inverse=True)
    pos, neg = np.flatnonzero(positive), np.flatnonzero(~positive)
    p_entries = (level_of_positive.reshape(-1), pos, np.ones(len(pos)))
    # The first level that is not below a negative; a negative above all of them loses to none.
    reached = np.searchsorted(levels, scores[neg])
    loses = reached < len(levels)
    reached, neg = reached[loses], neg[loses]
    tied = levels[reached] == scores[neg]
    # A tie gives one half to its own level and the other half to the next one, if there is one.
    carries = tied & (reached + 1 < len(levels))
    rows = np.concatenate([reached, reached[carries] + 1])
    columns = np.concatenate([neg, neg[carries]])
    values = np.concatenate([np.where(tied, 0.5, 1.0), np.full(int(carries.sum()), 0.5)])
    return len(levels), p_entries, (rows, columns, values)


def _stack(parts: list[_Entries], first_row: IntArray, n: int) -> Any:
    """One CSR matrix of all classes' rows, (rows, n)."""
    from scipy.sparse import csr_array

    rows = np.concatenate([part[0] + start for part, start in zip(parts, first_row[:-1], strict=True)])
    columns = np.concatenate([part[1] for part in parts])
    values = np.concatenate([part[2] for part in parts])
    return csr_array((values, (rows, columns)), shape=(int(first_row[-1]), n))
