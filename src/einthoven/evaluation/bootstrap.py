"""Bootstrap intervals of a metric: by record or by patient, percentile or BCa."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.comparison import Difference, paired_difference
from einthoven.evaluation.intervals import Interval, check_options, interval_of
from einthoven.evaluation.metrics import BoolArray, FloatArray, check_labels_scores
from einthoven.evaluation.resampling import (
    Metric,
    by_repetition,
    leave_one_out,
    mean_of_valid,
    members_of,
    resample_counts,
    resampled,
)
from einthoven.evaluation.weighted_auroc import WeightedAUROC

__all__ = [
    "Difference",
    "Interval",
    "auroc_intervals",
    "bootstrap_interval",
    "bootstrap_macro_auroc",
    "metric_interval",
    "paired_difference",
    "resample_counts",
]


def bootstrap_interval(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
    method: str = "percentile",
) -> Interval:
    """Bootstrap interval of the macro AUROC.

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
    method : str
        ``percentile``, or ``bca``: corrected for bias and skewness, see `interval_of`.

    Returns
    -------
    Interval

    Raises
    ------
    UserError
        If no class has both labels, ``level`` or ``resamples`` is out of range, the method is unknown, or ``groups``
        has not n entries; otherwise see `einthoven.evaluation.metrics.check_labels_scores`.
    """
    return auroc_intervals(y_true, y_score, resamples=resamples, level=level, seed=seed, groups=groups, method=method)[
        0
    ]


def auroc_intervals(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
    method: str = "percentile",
) -> tuple[Interval, list[Interval | None]]:
    """Bootstrap intervals of the macro AUROC and of the AUROC of each class, from the same resamples.

    Parameters
    ----------
    y_true, y_score, resamples, level, seed, groups, method
        As in `bootstrap_interval`.

    Returns
    -------
    macro : Interval
    per_class : list of K Interval or None
        None where a class lacks one of the labels in the data, or in every resample.

    Raises
    ------
    UserError
        As in `bootstrap_interval`.
    """
    check_options(level, resamples, method)
    usable, auroc, n = _auroc(y_true, y_score)
    members = members_of(groups, n)
    values = resampled(auroc, members, resamples, seed)
    left_out = leave_one_out(auroc, members) if method == "bca" else None
    estimate = auroc(np.ones((1, len(members))))[0]
    valid = ~np.isnan(values)
    defined = valid.any(axis=1)
    if not defined.any():
        raise UserError(f"None of {resamples} resamples had a class with both labels: too few records.")
    macro = interval_of(
        mean_of_valid(values)[defined],
        level,
        estimate=float(estimate.mean()),
        left_out=None if left_out is None else mean_of_valid(left_out),
        valid=valid[defined],
    )
    per_class: list[Interval | None] = [None] * len(usable)
    for column, k in enumerate(np.flatnonzero(usable)):
        there = valid[:, column]
        if there.any():
            per_class[k] = interval_of(
                values[there, column],
                level,
                estimate=float(estimate[column]),
                left_out=None if left_out is None else left_out[:, column],
                valid=valid[:, [column]],
            )
    return macro, per_class


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
    same records with the same seed are paired.

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
    check_options(0.95, resamples, "percentile")
    _, auroc, n = _auroc(y_true, y_score)
    values = resampled(auroc, members_of(groups, n), resamples, seed)
    return mean_of_valid(values), ~np.isnan(values)


def metric_interval(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    metric: Metric,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
    method: str = "percentile",
) -> Interval:
    """Bootstrap interval of any metric ``metric(y, score) -> float``.

    A resample in which the metric is refused (`UserError`) or ``nan`` is left out and not counted.

    Parameters
    ----------
    y_true, y_score, resamples, level, seed, groups, method
        As in `bootstrap_interval`, of which this is the slow and general form.
    metric : callable

    Returns
    -------
    Interval

    Raises
    ------
    UserError
        If the metric refuses the data themselves or every resample, or as in `bootstrap_interval`.
    """
    check_options(level, resamples, method)
    positive, scores = check_labels_scores(y_true, y_score)
    members, statistic = members_of(groups, len(positive)), by_repetition(metric, positive, scores)
    values = resampled(statistic, members, resamples, seed)[:, 0]
    left_out = leave_one_out(statistic, members)[:, 0] if method == "bca" else None
    return interval_of(values[~np.isnan(values)], level, estimate=metric(positive, scores), left_out=left_out)


def _auroc(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> tuple[BoolArray, WeightedAUROC, int]:
    """Which classes have both labels, their AUROCs under any counts, and the number of records."""
    positive, scores = check_labels_scores(y_true, y_score)
    usable: BoolArray = np.asarray(positive.any(axis=0) & ~positive.all(axis=0))
    if not usable.any():
        raise UserError("The bootstrap needs a class with both positive and negative records, found none.")
    return usable, WeightedAUROC(positive[:, usable], scores[:, usable]), len(positive)
