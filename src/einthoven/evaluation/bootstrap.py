"""Bootstrap intervals of a metric. The resamples are by record or by patient, the method is percentile or BCa."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.intervals import Interval, check_interval_options, compute_interval
from einthoven.evaluation.metrics import FloatArray, check_labels_scores, have_both_labels
from einthoven.evaluation.resampling import leave_one_out, mean_of_valid, number_groups, resample_statistic
from einthoven.evaluation.weighted_auroc import WeightedAUROC

_MOST_ENTRIES = 2**21
"""Records times classes whose resamples are computed together, so that memory is bounded for many classes."""


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
    """Compute the bootstrap interval of the macro AUROC.

    A class that lacks positives or negatives in a resample is left out of the macro average of this resample. With 71
    classes, only about one resample in nine has both labels of every class. The result says how often this happens. A
    class that lacks one of the labels in the data itself is never counted.

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
        Patient of each record. If it is given, patients are resampled, each with all of their records.
    method : str
        ``percentile`` or ``bca``. BCa corrects for bias and skewness, see `compute_interval`.

    Returns
    -------
    Interval

    Raises
    ------
    UserError
        If no class has both labels, if ``level`` or ``resamples`` is out of range, if the method is unknown, or if
        ``groups`` does not have n entries; otherwise see `einthoven.evaluation.metrics.check_labels_scores`.
    """
    macro, _ = auroc_intervals(
        y_true, y_score, resamples=resamples, level=level, seed=seed, groups=groups, method=method
    )
    return macro


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
    """Compute the bootstrap intervals of the macro AUROC and of the AUROC of each class, from the same resamples.

    Parameters
    ----------
    y_true, y_score, resamples, level, seed, groups, method
        As in `bootstrap_interval`.

    Returns
    -------
    macro : Interval
    per_class : list of K Interval or None
        None if a class lacks one of the labels in the data or in every resample.

    Raises
    ------
    UserError
        As in `bootstrap_interval`.
    """
    check_interval_options(level, resamples, method)
    positive, scores = check_labels_scores(y_true, y_score)
    has_both_labels = have_both_labels(positive)
    if not has_both_labels.any():
        raise UserError("The bootstrap needs a class with both positive and negative records, found none.")
    group_of_record = number_groups(groups, len(positive))
    columns = np.flatnonzero(has_both_labels)
    most_columns = max(1, _MOST_ENTRIES // len(positive))
    parts: list[FloatArray] = []
    parts_left_out: list[FloatArray] = []
    estimates: list[FloatArray] = []
    # The same seed draws the same resamples for all classes.
    for start in range(0, len(columns), most_columns):
        part = columns[start : start + most_columns]
        auroc = WeightedAUROC(positive[:, part], scores[:, part])
        parts.append(resample_statistic(auroc, group_of_record, resamples, seed))
        estimates.append(auroc(np.ones((1, len(positive))))[0])
        if method == "bca":
            parts_left_out.append(leave_one_out(auroc, group_of_record))
    values = np.concatenate(parts, axis=1)
    left_out = np.concatenate(parts_left_out, axis=1) if parts_left_out else None
    estimate = np.concatenate(estimates)

    # The macro average needs at least one class with both labels in the resample.
    valid = ~np.isnan(values)
    is_defined = valid.any(axis=1)
    if not is_defined.any():
        raise UserError(f"None of {resamples} resamples had a class with both labels: too few records.")
    macro = compute_interval(
        mean_of_valid(values)[is_defined],
        level,
        estimate=float(estimate.mean()),
        left_out=None if left_out is None else mean_of_valid(left_out),
        valid=valid[is_defined],
    )

    # The columns of `values` are the classes with both labels only.
    per_class: list[Interval | None] = [None] * len(has_both_labels)
    for column, k in enumerate(np.flatnonzero(has_both_labels)):
        is_valid = valid[:, column]
        if is_valid.any():
            per_class[k] = compute_interval(
                values[is_valid, column],
                level,
                estimate=float(estimate[column]),
                left_out=None if left_out is None else left_out[:, column],
                valid=valid[:, [column]],
            )
    return macro, per_class
