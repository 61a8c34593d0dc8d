"""Percentile bootstrap intervals of the macro AUROC, without sorting anything twice.

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

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray, IntArray, check_labels_scores

# Columns of float64 that a batch of resamples keeps for each record: small enough for the cache.
_BATCH = 64


@dataclass(frozen=True)
class Interval:
    """A percentile interval and what it rests on.

    Attributes
    ----------
    low, high : float
        The interval.
    level : float
        Its nominal coverage, for example .95.
    resamples : int
        How many resamples it rests on: those asked for, less those in which no class had both labels.
    complete : int
        How many of these had both labels in every class; in the others, the macro average is over fewer.
    classes_missing_share : float
        Share of all (resample, class) pairs that were left out because the resample lacked one of the labels.
    """

    low: float
    high: float
    level: float
    resamples: int
    complete: int
    classes_missing_share: float

    def __str__(self) -> str:
        return f"[{self.low:.4f}, {self.high:.4f}]"


def bootstrap_interval(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> Interval:
    """Percentile bootstrap interval of the macro AUROC.

    A class that lacks positives or negatives in a resample is left out of that resample's macro average (with
    71 classes only about one plain resample in nine has them all), and the result says how often. A class
    that lacks one in the data itself is not counted at all.

    Parameters
    ----------
    y_true : array-like, shape (n, K)
        Labels, each 0 or 1.
    y_score : array-like, shape (n, K)
        Scores, higher for positive.
    resamples : int
        Number of resamples.
    level : float
        Nominal coverage, between 0 and 1.
    seed : int
        Seed of the resampling.
    groups : array-like, shape (n,), optional
        Patient of each record; then patients are resampled, each with all of their records.

    Returns
    -------
    Interval

    Raises
    ------
    UserError
        If no class has both labels, ``level`` or ``resamples`` is out of range, or ``groups`` has not n
        entries; otherwise see `einthoven.evaluation.metrics.check_labels_scores`.
    """
    if not 0 < level < 1:
        raise UserError(f"The level of an interval lies between 0 and 1, found {level}.")
    macro, valid = bootstrap_macro_auroc(y_true, y_score, resamples=resamples, seed=seed, groups=groups)
    macro, valid = macro[valid.any(axis=1)], valid[valid.any(axis=1)]
    if not len(macro):
        raise UserError(f"None of {resamples} resamples had a class with both labels: too few records.")
    low, high = np.quantile(macro, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        low=float(low),
        high=float(high),
        level=level,
        resamples=len(macro),
        complete=int(valid.all(axis=1).sum()),
        classes_missing_share=float(1 - valid.mean()),
    )


def bootstrap_macro_auroc(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> tuple[FloatArray, BoolArray]:
    """Macro AUROC of each resample.

    The resamples depend on the seed, the number of records and the groups alone: two models evaluated on the
    same records with the same seed are paired, and the quantiles of the difference of their results are the
    paired bootstrap interval.

    Parameters
    ----------
    y_true, y_score, resamples, seed, groups
        As in `bootstrap_interval`.

    Returns
    -------
    macro : array of float64, shape (resamples,)
        ``nan`` in a resample without any valid class.
    valid : array of bool, shape (resamples, K')
        Which of the classes that have both labels in the data have both in the resample.

    Raises
    ------
    UserError
        As in `bootstrap_interval`.
    """
    positive, scores = check_labels_scores(y_true, y_score)
    if resamples < 1:
        raise UserError(f"At least one resample is needed, found {resamples}.")
    usable = positive.any(axis=0) & ~positive.all(axis=0)
    if not usable.any():
        raise UserError("The bootstrap needs a class with both positive and negative records, found none.")
    sorted_once = _Sorted(positive[:, usable], scores[:, usable])
    members = _members(groups, len(positive))
    rng = np.random.default_rng(seed)
    macro, valid = [], []
    for start in range(0, resamples, _BATCH):
        counts = resample_counts(members, min(_BATCH, resamples - start), rng)
        auroc = sorted_once.auroc(counts)
        present = ~np.isnan(auroc)
        total = np.where(present, auroc, 0.0).sum(axis=1)
        number = present.sum(axis=1)
        macro.append(np.where(number > 0, total / np.maximum(number, 1), np.nan))
        valid.append(present)
    return np.concatenate(macro), np.concatenate(valid)


def resample_counts(members: IntArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """How often each record occurs in each resample.

    Parameters
    ----------
    members : array of int, shape (n,)
        Group of each record, numbered from 0 without gaps; ``arange(n)`` resamples the records themselves.
    resamples : int
        Number of resamples.
    rng : numpy.random.Generator
        Drawn from in order, so that the counts do not depend on how resamples are batched.

    Returns
    -------
    array of float64, shape (resamples, n)
    """
    size = int(members.max()) + 1
    drawn = rng.integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, None]
    per_group = np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size)
    return per_group[:, members].astype(np.float64)


class _Sorted:
    """The two sparse matrices of the module's docstring, for all classes; each needs both labels."""

    def __init__(self, positive: BoolArray, scores: FloatArray) -> None:
        # Work per resample grows with the number of distinct positive scores, so the rarer label plays the
        # positive: exchanging the labels and the sign of the scores leaves the AUROC as it is.
        flip = positive.mean(axis=0) > 0.5
        positive = positive ^ flip
        scores = np.where(flip, -scores, scores)
        parts = [_levels(positive[:, k], scores[:, k]) for k in range(positive.shape[1])]
        sizes = [levels for levels, _, _ in parts]
        self.first_row = np.concatenate([[0], np.cumsum(sizes)])
        n = len(positive)
        self.positives = _stack([entries for _, entries, _ in parts], self.first_row, n)
        self.added = _stack([entries for _, _, entries in parts], self.first_row, n)

    def auroc(self, counts: FloatArray) -> FloatArray:
        """AUROC per resample and class, nan where a label is missing: counts (B, n) -> (B, K)."""
        by_record = np.ascontiguousarray(counts.T)
        at_level: FloatArray = self.positives @ by_record  # P, (rows, B)
        below: FloatArray = self.added @ by_record  # D, then U
        for start, stop in zip(self.first_row[:-1], self.first_row[1:], strict=True):
            np.cumsum(below[start:stop], axis=0, out=below[start:stop])
        wins = np.add.reduceat(at_level * below, self.first_row[:-1], axis=0)
        positives = np.add.reduceat(at_level, self.first_row[:-1], axis=0)
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


def _members(groups: npt.ArrayLike | None, n: int) -> IntArray:
    if groups is None:
        return np.arange(n)
    names = np.asarray(groups)
    if names.shape != (n,):
        raise UserError(f"Groups need one entry per record, found shape {names.shape} for {n} records.")
    return np.unique(names, return_inverse=True)[1].reshape(-1)
