"""Scores of probabilities: proper scoring rules, and the calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray, IntArray, check_labels_scores

BINS = 15


def check_probabilities(y_true: npt.ArrayLike, p: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Return labels as booleans and probabilities as float64. Refuse invalid ones.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels, and probabilities in 0 ... 1.

    Raises
    ------
    UserError
        If there is no record, if a probability is outside 0 ... 1, or as in
        `einthoven.evaluation.metrics.check_labels_scores`.
    """
    positive, probability = check_labels_scores(y_true, p)
    if not probability.size:
        raise UserError("Probabilities of at least one record are needed, found none.")
    # Rounding in a float32 softmax can give a probability slightly above 1.
    low = float(probability.min())
    high = float(probability.max())
    if low < -1e-6 or high > 1 + 1e-6:
        raise UserError(f"Probabilities in 0 ... 1 are needed, found {low:.4g} ... {high:.4g}.")
    return positive, probability.clip(0.0, 1.0)


def brier_per_class(y_true: npt.ArrayLike, p: npt.ArrayLike) -> FloatArray:
    """Compute the mean squared difference of probability and label of each class (Brier, Monthly Weather Review 1950).

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
    return ((probability - positive) ** 2).mean(axis=0)


def log_loss_per_class(y_true: npt.ArrayLike, p: npt.ArrayLike) -> FloatArray:
    """Compute the negative log-likelihood of each class in nats: the mean of ``-log p`` of the observed label.

    If the observed label has the probability 0, the smallest positive float is used instead. It gives about 708 nats.

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
    return -np.log(np.maximum(observed, np.finfo(np.float64).tiny)).mean(axis=0)


@dataclass(frozen=True)
class Reliability:
    """Predicted and observed shares of positives, in bins of records with similar probabilities.

    Attributes
    ----------
    stated, observed : array of float64, shape (bins,)
        Mean probability and share of positives in each bin.
    count : array of int, shape (bins,)
        Number of records in each bin. The bins have about equal numbers.
    """

    stated: FloatArray
    observed: FloatArray
    count: IntArray


def reliability(y_true: npt.ArrayLike, p: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """Sort the records of one class by probability into bins with equal numbers of records.

    Equal probabilities are always in the same bin, so the order of tied records does not matter. With ties, there can
    be fewer bins, and their numbers of records can differ.

    Parameters
    ----------
    y_true, p : array-like, shape (n,)
        Labels, and probabilities in 0 ... 1.
    bins : int
        Intended number of bins.

    Raises
    ------
    UserError
        If `bins` is below 1, or as in `check_probabilities`.
    """
    if bins < 1:
        raise UserError(f"At least one bin is needed, found {bins}.")
    positive, probability = check_probabilities(np.asarray(y_true)[:, None], np.asarray(p)[:, None])
    order = np.argsort(probability[:, 0])
    positive = positive[order, 0]
    probability = probability[order, 0]

    # A boundary inside of a tie moves to the end of the tie.
    n = len(probability)
    boundaries = np.rint(np.arange(1, bins) * n / bins).astype(np.int64)
    ends = np.searchsorted(probability, probability[np.maximum(boundaries, 1) - 1], side="right")
    starts = np.unique(np.concatenate([[0], ends]))
    starts = starts[starts < n]

    count = np.diff(np.append(starts, n))
    stated = np.add.reduceat(probability, starts) / count
    observed = np.add.reduceat(positive.astype(np.float64), starts) / count
    return Reliability(stated, observed, count)


def calibration_error_per_class(
    y_true: npt.ArrayLike, p: npt.ArrayLike, bins: int = BINS, *, debias: bool = True
) -> FloatArray:
    """Compute the expected calibration error of each class: the mean of |stated - observed| over the bins.

    The bins are weighted by their numbers of records. The observed share of a bin is noisy, so the plain estimate is
    too large even for perfect probabilities. `debias` subtracts the expected effect of the noise. It adds noise with
    the same normal distribution once more, computes how much larger the estimate becomes, and subtracts this amount.
    The mean of a folded normal distribution gives it in closed form.

    If the probabilities are perfect, this removes about two fifths of the effect. If the error of a bin is one to three
    times its noise, it removes too much. For example, with a true error of .1 in bins of 27 records, the estimate is
    .09 with `debias` and .11 without it.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels, and probabilities in 0 ... 1.
    bins : int
        Number of bins, see `reliability`.
    debias : bool
        Subtract the expected effect of noise.

    Returns
    -------
    array of float64, shape (K,)

    Raises
    ------
    UserError
        As in `reliability`.

    References
    ----------
    Kumar, Liang, Ma, "Verified uncertainty calibration", NeurIPS 2019, section 5 and the appendix on the L1 error. Bins
    with equal numbers: Nguyen and O'Connor, EMNLP 2015.
    """
    positive, probability = check_probabilities(y_true, p)
    errors = np.empty(positive.shape[1])
    for k in range(len(errors)):
        curve = reliability(positive[:, k], probability[:, k], bins)
        gap = np.abs(curve.stated - curve.observed)
        if debias:
            noise = np.sqrt(curve.observed * (1 - curve.observed) / curve.count)
            gap = 2 * gap - _folded_normal_mean(gap, noise)
        error = float(np.average(gap, weights=curve.count))
        errors[k] = max(error, 0.0)
    return errors


def _folded_normal_mean(mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Return the mean of |x| if x is normal: ``sd sqrt(2/pi) exp(-m^2 / 2 sd^2) + m erf(m / sd sqrt 2)``."""
    from scipy.special import erf

    ratio = np.divide(mean, sd, out=np.full_like(mean, np.inf), where=sd > 0)
    return sd * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + mean * erf(ratio / np.sqrt(2))
