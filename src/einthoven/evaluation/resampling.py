"""Resamples of records or patients, as counts of how often each record was drawn.

A statistic maps counts (B, n) to values (B, ...): for AUROCs all classes at once
(`einthoven.evaluation.weighted_auroc`), for any other metric by repeating the records.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray, IntArray

# Columns of float64 that a batch of resamples keeps for each record: small enough for the cache.
_BATCH = 64

Metric = Callable[[npt.ArrayLike, npt.ArrayLike], float]
Statistic = Callable[[FloatArray], FloatArray]  # counts (B, n) -> values (B, ...), nan where undefined


def resampled(statistic: Statistic, members: IntArray, resamples: int, seed: int) -> FloatArray:
    """Values of a statistic on resamples of the groups: (resamples, ...).

    The resamples depend on the seed and the groups alone, so that two statistics with one seed are paired.
    """
    rng = np.random.default_rng(seed)
    sizes = [min(_BATCH, resamples - start) for start in range(0, resamples, _BATCH)]
    return np.concatenate([statistic(resample_counts(members, size, rng)) for size in sizes])


def leave_one_out(statistic: Statistic, members: IntArray) -> FloatArray:
    """Values of a statistic without each group in turn: (groups, ...)."""
    size = int(members.max()) + 1
    parts = [np.arange(start, min(start + _BATCH, size)) for start in range(0, size, _BATCH)]
    return np.concatenate([statistic((members != part[:, None]).astype(np.float64)) for part in parts])


def by_repetition(metric: Metric, positive: BoolArray, scores: FloatArray) -> Statistic:
    """Any metric as a statistic: the records are repeated as often as they were drawn; refused is nan."""

    def one(count: FloatArray) -> float:
        rows = np.repeat(np.arange(len(positive)), count.astype(np.int64))
        try:
            return metric(positive[rows], scores[rows])
        except UserError:
            return np.nan

    return lambda counts: np.array([[one(count)] for count in counts])


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


def members_of(groups: npt.ArrayLike | None, n: int) -> IntArray:
    """Number of each record's group, from 0 without gaps; without groups, each record is its own."""
    if groups is None:
        return np.arange(n)
    names = np.asarray(groups)
    if names.shape != (n,):
        raise UserError(f"Groups need one entry per record, found shape {names.shape} for {n} records.")
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def mean_of_valid(values: FloatArray) -> FloatArray:
    """Mean over the columns that are not nan, nan where none is: (B, K) -> (B,)."""
    present = ~np.isnan(values)
    number = present.sum(axis=1)
    total = np.where(present, values, 0.0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
