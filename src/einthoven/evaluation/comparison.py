"""Two models on the same records: by how much one is better, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.intervals import Interval, check_options, interval_of
from einthoven.evaluation.metrics import BoolArray, FloatArray, check_labels_scores, macro_auroc
from einthoven.evaluation.resampling import Metric, by_repetition, mean_of_valid, members_of, resampled
from einthoven.evaluation.weighted_auroc import WeightedAUROC


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
        As in `einthoven.evaluation.bootstrap.bootstrap_interval`.

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
            return mean_of_valid(found), ~np.isnan(found)
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
