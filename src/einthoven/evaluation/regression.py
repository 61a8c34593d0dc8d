"""Metrics of regression: mean absolute error (MAE), root mean squared error (RMSE) and R², with intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from einthoven.evaluation.intervals import Interval, compute_interval
from einthoven.evaluation.metrics import FloatArray
from einthoven.evaluation.resampling import number_groups, resample_statistic

NAMES = ("mae", "rmse", "r2")


def scores(error: FloatArray, y: FloatArray, p: FloatArray, counts: FloatArray | None = None) -> FloatArray:
    """Compute MAE, RMSE and R² of the records, or of each resample.

    R² is the share of the variance that is explained: ``1 - Σ |y - p|² / Σ |y - ȳ|²``. It is 1 for perfect predictions
    and 0 for the mean of the targets.

    Parameters
    ----------
    error : array, shape (n,)
        Error of each record.
    y, p : array, shape (n, K)
        Targets and predictions. The squares of all columns are added.
    counts : array, shape (B, n), optional
        How often each record occurs in each resample. By default there is one row in which each record occurs once.

    Returns
    -------
    array, shape (B, 3)
        R² is NaN if the targets do not vary.
    """
    if counts is None:
        counts = np.ones((1, len(error)))

    # All means over the records are computed in one product.
    centred = y - y.mean(axis=0)
    columns = [np.abs(error), np.square(error), np.square(y - p).sum(axis=1), np.square(centred).sum(axis=1)]
    total = counts.sum(axis=1, keepdims=True)
    absolute, square, residual, mean_square = (counts @ np.stack(columns, axis=1) / total).T

    # The variance is the mean square minus the square of the mean. The difference of two large numbers would lose
    # digits, so the targets were centred before.
    variance = mean_square - np.square(counts @ centred / total).sum(axis=1)
    varies = variance > 1e-12 * np.square(y).mean()
    r2 = np.where(varies, 1 - residual / np.where(varies, variance, 1.0), np.nan)
    return np.stack([absolute, np.sqrt(square), r2], axis=1)


def intervals(
    error: FloatArray,
    y: FloatArray,
    p: FloatArray,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> dict[str, Interval]:
    """Compute the percentile bootstrap intervals of the three metrics, from the same resamples.

    Parameters
    ----------
    error, y, p
        As in `scores`.
    resamples, level, seed, groups
        As in `einthoven.evaluation.bootstrap.bootstrap_interval`.

    Returns
    -------
    dict of str to Interval
        Name of the metric -> interval. R² is left out if it is not defined.
    """
    group_of_record = number_groups(groups, len(error))
    values = resample_statistic(lambda counts: scores(error, y, p, counts), group_of_record, resamples, seed)
    interval_of_metric = {}
    for name, column in zip(NAMES, values.T, strict=True):
        defined = column[~np.isnan(column)]
        if len(defined):
            interval_of_metric[name] = compute_interval(defined, level)
    return interval_of_metric


def angular_difference(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return ``a - b`` in degrees, as the smaller arc, in [-180, 180)."""
    return np.asarray((a - b + 180.0) % 360.0 - 180.0)
