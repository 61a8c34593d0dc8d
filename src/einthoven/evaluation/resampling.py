"""Bootstrap resamples of records or patients. A resample is a vector that counts how often each record was drawn.

A statistic maps counts (B, n) to values (B, ...). `einthoven.evaluation.weighted_auroc` is a fast statistic for the
AUROCs of all classes. For any other metric, the statistic repeats the records as often as they were drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray, IntArray

# Number of resamples that are computed together. Their counts fit into the cache of the CPU.
_BATCH = 64

# Numbers in an array of counts. Some twenty such arrays exist at a time, so that many records do not need more memory.
_MOST_COUNTS = 2**20

Metric = Callable[[npt.ArrayLike, npt.ArrayLike], float]
"""Function of labels and scores."""

Statistic = Callable[[FloatArray], FloatArray]
"""Function of counts (B, n) that returns values (B, ...). A value is nan if it is not defined."""


def resample_statistic(statistic: Statistic, group_of_record: IntArray, resamples: int, seed: int) -> FloatArray:
    """Compute a statistic on resamples of the groups: (resamples, ...).

    The resamples depend only on the seed and the groups. So two statistics with the same seed are paired.
    """
    rng = np.random.default_rng(seed)
    batches = []
    most = _batch_size(len(group_of_record))
    for start in range(0, resamples, most):
        batch_size = min(most, resamples - start)
        batches.append(statistic(resample_counts(group_of_record, batch_size, rng)))
    return np.concatenate(batches)


def leave_one_out(statistic: Statistic, group_of_record: IntArray) -> FloatArray:
    """Compute a statistic with each of the groups left out: (groups, ...)."""
    num_groups = int(group_of_record.max()) + 1
    batches = []
    most = _batch_size(len(group_of_record))
    for start in range(0, num_groups, most):
        left_out = np.arange(start, min(start + most, num_groups))
        counts = (group_of_record != left_out[:, None]).astype(np.float64)
        batches.append(statistic(counts))
    return np.concatenate(batches)


def _batch_size(records: int) -> int:
    """Return how many resamples are computed together."""
    return max(1, min(_BATCH, _MOST_COUNTS // max(1, records)))


def repeat_records(metric: Metric, positive: BoolArray, scores: FloatArray) -> Statistic:
    """Make a statistic of a metric. It repeats the records as often as they were drawn.

    The statistic is nan if the metric raises `UserError`.
    """

    def value(count: FloatArray) -> float:
        rows = np.repeat(np.arange(len(positive)), count.astype(np.int64))
        try:
            return metric(positive[rows], scores[rows])
        except UserError:
            return np.nan

    return lambda counts: np.array([[value(count)] for count in counts])


def resample_counts(group_of_record: IntArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Draw resamples of the groups, and count how often each record occurs in each resample.

    Parameters
    ----------
    group_of_record : array of int, shape (n,)
        Number of the group of each record, from 0 without gaps. ``arange(n)`` resamples the records themselves.
    resamples : int
        Number of resamples.
    rng : numpy.random.Generator
        Random numbers are drawn resample by resample. So the counts do not depend on the batches.

    Returns
    -------
    array of float64, shape (resamples, n)
    """
    # All resamples are counted together. The numbers of resample i come after those of resample i - 1.
    num_groups = int(group_of_record.max()) + 1
    drawn = rng.integers(num_groups, size=(resamples, num_groups)) + num_groups * np.arange(resamples)[:, None]
    group_counts = np.bincount(drawn.ravel(), minlength=resamples * num_groups).reshape(resamples, num_groups)
    return group_counts[:, group_of_record].astype(np.float64)


def number_groups(groups: npt.ArrayLike | None, n: int) -> IntArray:
    """Number the groups from 0, and return the number of each record. Without groups, each record is a group."""
    if groups is None:
        return np.arange(n)
    names = np.asarray(groups)
    if names.shape != (n,):
        raise UserError(f"Groups need one entry per record, found shape {names.shape} for {n} records.")
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def mean_of_valid(values: FloatArray) -> FloatArray:
    """Return the mean over the columns that are not nan: (B, K) -> (B,). It is nan if there is no such column."""
    is_valid = ~np.isnan(values)
    count = is_valid.sum(axis=1)
    total = np.where(is_valid, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
