"""An interval out of resampled values: their quantiles, or BCa."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray

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
