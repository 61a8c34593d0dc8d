"""Metrics of regression, of the records or of any resample: mean absolute and root mean squared error, and R²."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from einthoven.evaluation.intervals import Interval, interval_of
from einthoven.evaluation.metrics import FloatArray
from einthoven.evaluation.resampling import members_of, resampled

NAMES = ("mae", "rmse", "r2")


def scores(error: FloatArray, y: FloatArray, p: FloatArray, counts: FloatArray | None = None) -> FloatArray:
    """MAE, RMSE and R² of the records, each counted so many times.

    R² is the share of the variance that is explained, ``1 - Σ |y - p|² / Σ |y - ȳ|²``: 1 is perfect, 0 the mean.

    Parameters
    ----------
    error : array, shape (n,)
        Of each record.
    y, p : array, shape (n, K)
        Targets and predictions; the squares of all columns are added.
    counts : array, shape (B, n), optional
        How often each record counts, a row per resample; once, if not given.

    Returns
    -------
    array, shape (B, 3)
        R² is NaN where the targets do not vary.
    """
    counts = np.ones((1, len(error))) if counts is None else counts
    centred = y - y.mean(axis=0)  # so that the difference of squares below loses no digits
    columns = [np.abs(error), np.square(error), np.square(y - p).sum(axis=1), np.square(centred).sum(axis=1)]
    absolute, square, residual, spread = (counts @ np.stack(columns, axis=1) / counts.sum(axis=1, keepdims=True)).T
    spread = spread - np.square(counts @ centred / counts.sum(axis=1, keepdims=True)).sum(axis=1)
    varies = spread > 1e-12 * np.square(y).mean()
    r2 = np.where(varies, 1 - residual / np.where(varies, spread, 1.0), np.nan)
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
    """Percentile bootstrap interval of each of the three, from the same resamples.

    Parameters
    ----------
    error, y, p
        As in `scores`.
    resamples, level, seed, groups
        As in `einthoven.evaluation.bootstrap.bootstrap_interval`.

    Returns
    -------
    dict of str to Interval
        Without R² where it is not defined.
    """
    values = resampled(lambda counts: scores(error, y, p, counts), members_of(groups, len(error)), resamples, seed)
    defined = {name: found[~np.isnan(found)] for name, found in zip(NAMES, values.T, strict=True)}
    return {name: interval_of(found, level) for name, found in defined.items() if len(found)}


def angular_difference(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a - b`` in degrees as the smaller arc, in [-180, 180)."""
    return np.asarray((a - b + 180.0) % 360.0 - 180.0)
