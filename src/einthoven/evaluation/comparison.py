"""Comparison of two models on the same records: the difference of a metric, with an interval and a p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.intervals import Interval, check_interval_options, compute_interval
from einthoven.evaluation.metrics import BoolArray, FloatArray, check_labels_scores, have_both_labels, macro_auroc
from einthoven.evaluation.resampling import Metric, mean_of_valid, number_groups, repeat_records, resample_statistic
from einthoven.evaluation.weighted_auroc import WeightedAUROC


@dataclass(frozen=True)
class Difference:
    """Difference of a metric between model b and model a on the same records.

    Attributes
    ----------
    difference : float
        Metric of b minus metric of a.
    interval : Interval
        Bootstrap interval of the difference.
    p : float
        Two-sided p-value: twice the share of resamples at or beyond 0, on the side with fewer resamples.
    classes : int
        Number of classes with both labels. The other classes are left out for both models.
    """

    difference: float
    interval: Interval
    p: float
    classes: int


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

    Both models are evaluated on the same resamples. So the effect of records that are difficult for both models
    cancels. Classes without both labels are left out for both models, in the data and in each resample.

    Parameters
    ----------
    y : array-like, shape (n, K)
        Labels, each 0 or 1.
    a, b : array-like, shape (n, K)
        Scores of the two models.
    metric : callable
        ``metric(y, score) -> float``. The macro AUROC has a faster implementation.
    resamples, level, seed, groups
        As in `einthoven.evaluation.bootstrap.bootstrap_interval`.

    Returns
    -------
    Difference

    Raises
    ------
    UserError
        If no class has both labels, or as in `bootstrap_interval`.

    References
    ----------
    Efron and Tibshirani, "An introduction to the bootstrap" (1993), sections 13.3 and 15.4. The p-value adds 1 to both
    counts: Davison and Hinkley, "Bootstrap methods and their application" (1997), equation 4.11.
    """
    return difference_of_means(y, [a], [b], metric, resamples=resamples, level=level, seed=seed, groups=groups)


def difference_of_means(
    y: npt.ArrayLike,
    others: Sequence[npt.ArrayLike],
    models: Sequence[npt.ArrayLike],
    metric: Metric = macro_auroc,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> Difference:
    """Compare two groups of models: the mean of ``metric(y, model)`` less the mean of ``metric(y, other)``.

    A group can be one recipe, trained with several seeds. The means are taken in each resample, so that the interval is
    about the records. It does not include the variation between other models that could have been compared.

    Parameters
    ----------
    others, models : sequence of array-like, shape (n, K)
        Scores of each model of the two groups, one or more.
    y, metric, resamples, level, seed, groups
        As in `paired_difference`.

    Returns
    -------
    Difference

    Raises
    ------
    UserError
        As in `paired_difference`.
    """
    check_interval_options(level, resamples, "percentile")
    positive, _ = check_labels_scores(y, models[0])
    scores_of_models = [check_labels_scores(y, model)[1] for model in models]
    scores_of_others = [check_labels_scores(y, other)[1] for other in others]
    has_both_labels = have_both_labels(positive)
    if not has_both_labels.any():
        raise UserError("A comparison needs a class with both positive and negative records, found none.")
    positive = positive[:, has_both_labels]
    scores_of_models = [scores[:, has_both_labels] for scores in scores_of_models]
    scores_of_others = [scores[:, has_both_labels] for scores in scores_of_others]
    group_of_record = number_groups(groups, len(positive))

    def resample_metric(scores: FloatArray) -> tuple[FloatArray, BoolArray]:
        if metric is macro_auroc:
            values = resample_statistic(WeightedAUROC(positive, scores), group_of_record, resamples, seed)
            return mean_of_valid(values), ~np.isnan(values)
        values = resample_statistic(repeat_records(metric, positive, scores), group_of_record, resamples, seed)
        return values[:, 0], ~np.isnan(values)

    resampled_models = [resample_metric(scores) for scores in scores_of_models]
    resampled_others = [resample_metric(scores) for scores in scores_of_others]
    # The labels of a resample are the same for all models, and so are the classes that it leaves out.
    valid = resampled_models[0][1]
    mean_of_models = np.mean([values for values, _ in resampled_models], axis=0)
    differences = mean_of_models - np.mean([values for values, _ in resampled_others], axis=0)
    is_defined = ~np.isnan(differences)
    differences = differences[is_defined]
    interval = compute_interval(differences, level, valid=valid[is_defined])
    smaller_tail = min((differences <= 0).sum(), (differences >= 0).sum())
    difference = np.mean([metric(positive, scores) for scores in scores_of_models])
    difference -= np.mean([metric(positive, scores) for scores in scores_of_others])
    return Difference(
        difference=float(difference),
        interval=interval,
        p=min(1.0, 2 * float(1 + smaller_tail) / (1 + interval.resamples)),
        classes=int(has_both_labels.sum()),
    )
