"""Bootstrap intervals of a metric: by record or by patient, percentile or BCa; of one model, or of two compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray, check_labels_scores, macro_auroc
from einthoven.evaluation.resampling import (
    Metric,
    by_repetition,
    leave_one_out,
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

METHODS = ("percentile", "bca")


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval and what it rests on.

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


@dataclass(frozen=True)
class Difference:
    """How much a metric of model b exceeds that of model a on the same records.

    Attributes
    ----------
    difference : float
        Metric of b minus metric of a.
    interval : Interval
        Of the difference, with the number of resamples that it rests on.
    p : float
        Two-sided: twice the smaller share of resamples on either side of 0, these and 0 counted in.
    classes : int
        Classes with both labels, on which both models are judged; the others are left out of both.
    """

    difference: float
    interval: Interval
    p: float
    classes: int


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
        _mean_of_valid(values)[defined],
        level,
        estimate=float(estimate.mean()),
        left_out=None if left_out is None else _mean_of_valid(left_out),
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
    return _mean_of_valid(values), ~np.isnan(values)


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


def paired_difference(
    y: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    metric: Metric = macro_auroc,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> Difference:
    """Compare two models on the same records and the same classes: ``metric(y, b) - metric(y, a)``.

    Both are evaluated on each resample, so that what makes some records hard for both cancels. Classes without both
    labels are left out for both, in the data and in each resample.

    Parameters
    ----------
    y : array-like, shape (n, K)
        Labels, each 0 or 1.
    a, b : array-like, shape (n, K)
        Scores of the two models.
    metric : callable
        ``metric(y, score) -> float``; the macro AUROC has a fast path.
    resamples, level, seed, groups
        As in `bootstrap_interval`.

    Returns
    -------
    Difference

    Raises
    ------
    UserError
        If there is nothing to compare, or as in `bootstrap_interval`.

    References
    ----------
    Efron and Tibshirani, "An introduction to the bootstrap" (1993), sections 13.3 and 15.4; the 1 that is added to
    both counts of p: Davison and Hinkley, "Bootstrap methods and their application" (1997), equation 4.11.
    """
    check_options(level, resamples, "percentile")
    positive, first = check_labels_scores(y, a)
    _, second = check_labels_scores(y, b)
    usable = positive.any(axis=0) & ~positive.all(axis=0)
    if not usable.any():
        raise UserError("A comparison needs a class with both positive and negative records, found none.")
    positive, first, second = positive[:, usable], first[:, usable], second[:, usable]
    members = members_of(groups, len(positive))

    def values(scores: FloatArray) -> tuple[FloatArray, BoolArray]:
        if metric is macro_auroc:
            found = resampled(WeightedAUROC(positive, scores), members, resamples, seed)
            return _mean_of_valid(found), ~np.isnan(found)
        found = resampled(by_repetition(metric, positive, scores), members, resamples, seed)
        return found[:, 0], ~np.isnan(found)

    (of_a, valid), (of_b, _) = values(first), values(second)
    differences = of_b - of_a
    defined = ~np.isnan(differences)
    interval = interval_of(differences[defined], level, valid=valid[defined])
    tails = min((differences[defined] <= 0).sum(), (differences[defined] >= 0).sum())
    return Difference(
        difference=metric(positive, second) - metric(positive, first),
        interval=interval,
        p=min(1.0, 2 * float(1 + tails) / (1 + interval.resamples)),
        classes=int(usable.sum()),
    )


def interval_of(
    values: FloatArray,
    level: float,
    *,
    estimate: float = np.nan,
    left_out: FloatArray | None = None,
    valid: BoolArray | None = None,
) -> Interval:
    """The interval that resampled values give: their quantiles, with `left_out` those of BCa.

    BCa shifts the two quantiles by the bias ``z0``, the normal quantile of the share of values below the estimate
    (ties counted one half), and by the acceleration ``a``, from the skewness of the values with one group left out:
    ``Phi(z0 + (z0 + z) / (1 - a (z0 + z)))`` in place of ``Phi(z)``.

    Parameters
    ----------
    values : array of float64, shape (resamples,)
        The metric in each resample in which it is defined.
    level : float
        Nominal coverage.
    estimate : float
        The metric of the data; for BCa.
    left_out : array of float64, shape (groups,), optional
        The metric without each of the groups that are resampled; for BCa.
    valid : array of bool, shape (resamples, classes), optional
        Which classes took part; all, if not given.

    Raises
    ------
    UserError
        If there are no values.

    References
    ----------
    Efron, "Better bootstrap confidence intervals", Journal of the American Statistical Association 1987.
    """
    from scipy.special import ndtr, ndtri

    if not len(values):
        raise UserError("No resample had the metric defined: too few records.")
    quantiles = np.array([(1 - level) / 2, (1 + level) / 2])
    if left_out is not None:
        below = (np.count_nonzero(values < estimate) + np.count_nonzero(values <= estimate)) / (2 * len(values))
        deviation = np.nanmean(left_out) - left_out[~np.isnan(left_out)]
        spread = float((deviation**2).sum())
        if 0 < below < 1 and spread > 0:  # else all values are on one side, as at an AUROC of 1: no shift is known
            bias, acceleration = ndtri(below), float((deviation**3).sum()) / (6 * spread**1.5)
            z = bias + ndtri(quantiles)
            quantiles = ndtr(bias + z / (1 - acceleration * z))
    low, high = np.quantile(values, quantiles)
    took_part = np.ones((len(values), 1), dtype=np.bool_) if valid is None else valid
    return Interval(
        low=float(low),
        high=float(high),
        level=level,
        resamples=len(values),
        complete=int(took_part.all(axis=1).sum()),
        classes_missing_share=float(1 - took_part.mean()),
    )


def check_options(level: float, resamples: int, method: str) -> None:
    """Refuse options of a bootstrap that make no sense."""
    if not 0 < level < 1:
        raise UserError(f"The level of an interval lies between 0 and 1, found {level}.")
    if resamples < 1:
        raise UserError(f"At least one resample is needed, found {resamples}.")
    if method not in METHODS:
        raise UserError(f"The method of an interval is one of {', '.join(METHODS)}, found {method}.")


def _auroc(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> tuple[BoolArray, WeightedAUROC, int]:
    """Which classes have both labels, their AUROCs under any counts, and the number of records."""
    positive, scores = check_labels_scores(y_true, y_score)
    usable: BoolArray = np.asarray(positive.any(axis=0) & ~positive.all(axis=0))
    if not usable.any():
        raise UserError("The bootstrap needs a class with both positive and negative records, found none.")
    return usable, WeightedAUROC(positive[:, usable], scores[:, usable]), len(positive)


def _mean_of_valid(values: FloatArray) -> FloatArray:
    """Mean over the columns that are not nan, nan where none is: (B, K) -> (B,)."""
    present = ~np.isnan(values)
    number = present.sum(axis=1)
    total = np.where(present, values, 0.0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
