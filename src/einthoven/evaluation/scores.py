"""What probabilities are worth as numbers: proper scores, and how far they are from what is observed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray, IntArray, check_labels_scores

BINS = 15


def check_probabilities(y_true: npt.ArrayLike, p: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Labels as booleans and probabilities as float64 in 0 ... 1, refused where they are not.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)

    Raises
    ------
    UserError
        If there is no record, a probability is outside 0 ... 1, or as in
        `einthoven.evaluation.metrics.check_labels_scores`.
    """
    positive, probability = check_labels_scores(y_true, p)
    if not probability.size:
        raise UserError("Probabilities of at least one record are needed, found none.")
    low, high = float(probability.min()), float(probability.max())
    if low < -1e-6 or high > 1 + 1e-6:  # a float32 softmax may exceed 1 by a rounding
        raise UserError(f"Probabilities in 0 ... 1 are needed, found {low:.4g} ... {high:.4g}.")
    return positive, probability.clip(0.0, 1.0)


def brier_per_class(y_true: npt.ArrayLike, p: npt.ArrayLike) -> FloatArray:
    """Mean squared difference of probability and label of each class (Brier, Monthly Weather Review 1950).

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels, and probabilities in 0 ... 1.

    Returns
    -------
    array of float64, shape (K,)

    Raises
    ------
    UserError
        See `check_probabilities`.
    """
    positive, probability = check_probabilities(y_true, p)
    squared: FloatArray = ((probability - positive) ** 2).mean(axis=0)
    return squared


def log_loss_per_class(y_true: npt.ArrayLike, p: npt.ArrayLike) -> FloatArray:
    """Negative log-likelihood of each class, in nats: the mean of ``-log p`` of what was observed.

    A probability of 0 for what happened is taken as the smallest positive number, about 708 nats.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels, and probabilities in 0 ... 1.

    Returns
    -------
    array of float64, shape (K,)

    Raises
    ------
    UserError
        See `check_probabilities`.
    """
    positive, probability = check_probabilities(y_true, p)
    observed = np.where(positive, probability, 1 - probability)
    loss: FloatArray = -np.log(np.maximum(observed, np.finfo(np.float64).tiny)).mean(axis=0)
    return loss


@dataclass(frozen=True)
class Reliability:
    """Records of similar probability, in bins of about equal number: what was said, and what was seen.

    Attributes
    ----------
    stated, observed : array of float64, shape (bins,)
        Mean probability and share of positives in each bin.
    count : array of int, shape (bins,)
        Records in each bin.
    """

    stated: FloatArray
    observed: FloatArray
    count: IntArray


def reliability(y_true: npt.ArrayLike, p: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """Put the records of one class in bins of equal number by their probability.

    Equal probabilities are never in two bins, so that the order of tied records does not matter; there are then fewer
    bins, of less equal number.

    Parameters
    ----------
    y_true, p : array-like, shape (n,)
        Labels, and probabilities in 0 ... 1.
    bins : int
        How many to aim for.

    Raises
    ------
    UserError
        If `bins` is below 1, or as in `check_probabilities`.
    """
    if bins < 1:
        raise UserError(f"At least one bin is needed, found {bins}.")
    positive, probability = check_probabilities(np.asarray(y_true)[:, None], np.asarray(p)[:, None])
    order = np.argsort(probability[:, 0])
    positive, probability = positive[order, 0], probability[order, 0]
    n = len(probability)
    cuts = np.rint(np.arange(1, bins) * n / bins).astype(np.int64)
    # A cut inside a tie moves to its end.
    ends = np.searchsorted(probability, probability[np.maximum(cuts, 1) - 1], side="right")
    starts = np.unique(np.concatenate([[0], ends]))
    starts = starts[starts < n]
    count = np.diff(np.append(starts, n))
    return Reliability(
        np.add.reduceat(probability, starts) / count,
        np.add.reduceat(positive.astype(np.float64), starts) / count,
        count,
    )


def calibration_error_per_class(
    y_true: npt.ArrayLike, p: npt.ArrayLike, bins: int = BINS, *, debias: bool = True
) -> FloatArray:
    """Expected calibration error of each class: the mean over bins of |stated - observed|, by records.

    The plain estimate is too large even for perfect probabilities, for the observed share of a bin is noisy. With
    `debias`, the expected effect of that noise is taken off: how much larger the estimate becomes when noise of the
    same normal distribution is added once more, in closed form (the mean of a folded normal). This takes off about
    two fifths of it where the probabilities are perfect; where a bin is off by one to three times its noise it takes
    off too much, so that a true error of .1 in bins of 27 records is found as .09, and as .11 without.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels, and probabilities in 0 ... 1.
    bins : int
        Bins of equal number, see `reliability`.
    debias : bool
        Take off what noise alone adds.

    Returns
    -------
    array of float64, shape (K,)

    Raises
    ------
    UserError
        As in `reliability`.

    References
    ----------
    Kumar, Liang, Ma, "Verified uncertainty calibration", NeurIPS 2019, section 5 and the appendix on the L1 error;
    equal-mass bins: Nguyen and O'Connor, EMNLP 2015.
    """
    positive, probability = check_probabilities(y_true, p)
    errors = np.empty(positive.shape[1])
    for k in range(len(errors)):
        found = reliability(positive[:, k], probability[:, k], bins)
        gap = np.abs(found.stated - found.observed)
        if debias:
            again = _folded_normal_mean(gap, np.sqrt(found.observed * (1 - found.observed) / found.count))
            error = float(np.average(2 * gap - again, weights=found.count))
        else:
            error = float(np.average(gap, weights=found.count))
        errors[k] = max(error, 0.0)
    return errors


def _folded_normal_mean(mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Mean of |x| where x is normal: ``sd sqrt(2/pi) exp(-m^2 / 2 sd^2) + m erf(m / sd sqrt 2)``."""
    from scipy.special import erf

    ratio = np.divide(mean, sd, out=np.full_like(mean, np.inf), where=sd > 0)
    folded: FloatArray = sd * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + mean * erf(ratio / np.sqrt(2))
    return folded
