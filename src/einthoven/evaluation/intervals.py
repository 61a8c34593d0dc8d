"""Bootstrap intervals from resampled values, by the percentile method or by BCa."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray

METHODS = ("percentile", "bca")


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval.

    Attributes
    ----------
    low, high : float
        Ends of the interval.
    level : float
        Nominal coverage, for example .95.
    resamples : int
        Number of resamples in which the metric is defined.
    complete : int
        Number of these resamples in which every class has both labels. In the others, the macro average has fewer
        classes.
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
        return f"({self.low:.4f} to {self.high:.4f})"


def compute_interval(
    values: FloatArray,
    level: float,
    *,
    estimate: float = np.nan,
    left_out: FloatArray | None = None,
    valid: BoolArray | None = None,
) -> Interval:
    """Compute an interval from resampled values.

    Without `left_out`, the method is the percentile method: quantiles of the values. With `left_out`, the method is
    BCa. It uses the quantiles ``Phi(z0 + (z0 + z) / (1 - a (z0 + z)))`` instead of ``Phi(z)``. The bias ``z0`` is the
    normal quantile of the share of values below the estimate, where ties count one half. The acceleration ``a`` comes
    from the skewness of the values with one group left out.

    Parameters
    ----------
    values : array of float64, shape (resamples,)
        The metric in each resample in which it is defined.
    level : float
        Nominal coverage.
    estimate : float
        The metric of the data itself. Only BCa needs it.
    left_out : array of float64, shape (groups,), optional
        The metric of the data without each of the groups that are resampled.
    valid : array of bool, shape (resamples, classes), optional
        The classes that have both labels in each resample. By default all of them.

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
        # The bias is not finite if all values are on one side of the estimate, as with an AUROC of 1.
        if 0 < below < 1 and spread > 0:
            bias = ndtri(below)
            acceleration = float((deviation**3).sum()) / (6 * spread**1.5)
            z = bias + ndtri(quantiles)
            quantiles = ndtr(bias + z / (1 - acceleration * z))
    low, high = np.quantile(values, quantiles)
    if valid is None:
        valid = np.ones((len(values), 1), dtype=np.bool_)
    return Interval(
        low=float(low),
        high=float(high),
        level=level,
        resamples=len(values),
        complete=int(valid.all(axis=1).sum()),
        classes_missing_share=float(1 - valid.mean()),
    )


def check_interval_options(level: float, resamples: int, method: str) -> None:
    """Refuse invalid options of a bootstrap."""
    if not 0 < level < 1:
        raise UserError(f"The level of an interval must be between 0 and 1, found {level}.")
    if resamples < 1:
        raise UserError(f"At least one resample is needed, found {resamples}.")
    if method not in METHODS:
        raise UserError(f"The method of an interval must be one of {', '.join(METHODS)}, found {method}.")
