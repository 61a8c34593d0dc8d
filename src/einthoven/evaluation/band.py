"""Confidence band around calibrated probabilities, from the records on which the calibration was fitted.

On the logit scale, ``logit P(y = 1) = a + b z`` connects the observed share of positives with the predicted logit z.
Calibrated probabilities have a = 0 and b = 1. A finite number of fitting records determines a and b only up to an
uncertainty. The band shows this uncertainty: how well the share of positives is known among records with the same
probability. It does not show how certain the network is about a single record. `einthoven.evaluation.uncertainty`
measures that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from einthoven.evaluation.metrics import FloatArray, have_both_labels
from einthoven.evaluation.scores import check_probabilities

# Probabilities are limited to this distance from 0 and 1, because 0 and 1 have no logit.
_TINY = 1e-12

NORMAL_QUANTILE = 1.959963984540054
"""95 % of a normal distribution lie within this number of standard deviations."""


def calibration_covariance(y_true: npt.ArrayLike, p: npt.ArrayLike) -> FloatArray:
    """Compute the covariance of intercept and slope of the calibration line of each class, at a = 0 and b = 1.

    It is the inverse of the observed information ``sum p (1 - p) [1, z] [1, z]^T``. A prior that weighs as much
    as one record keeps it finite if the probabilities separate the labels of a class without any error.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels and calibrated probabilities of the records that the calibration was fitted on.

    Returns
    -------
    array of float64, shape (K, 2, 2)
        NaN for a class without both labels.

    Raises
    ------
    UserError
        See `einthoven.evaluation.scores.check_probabilities`.

    References
    ----------
    The line: Cox, "Two further applications of a model for binary regression", Biometrika 1958. Its covariance:
    McCullagh and Nelder, "Generalized linear models", 1989, section 4.4.
    """
    positive, probability = check_probabilities(y_true, p)
    z = _logit(probability)
    weight = probability * (1 - probability)
    information = np.empty((z.shape[1], 2, 2))
    information[:, 0, 0] = weight.sum(axis=0)
    information[:, 0, 1] = (weight * z).sum(axis=0)
    information[:, 1, 0] = information[:, 0, 1]
    information[:, 1, 1] = (weight * (z * z)).sum(axis=0)
    with_prior = information + np.eye(2)
    covariance: FloatArray = np.asarray(np.linalg.inv(with_prior), np.float64)
    covariance[~have_both_labels(positive)] = np.nan
    return covariance


def logits_and_deviation(p: npt.ArrayLike, covariance: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the logits of calibrated probabilities (n, K), and the standard deviation of each logit."""
    z = _logit(np.asarray(p, dtype=np.float64))
    c = np.asarray(covariance, dtype=np.float64)
    variance = c[:, 0, 0] + 2 * z * c[:, 0, 1] + z * z * c[:, 1, 1]
    return z, np.sqrt(np.maximum(variance, 0.0))


def mean_intervals(by_member: FloatArray, covariances: Sequence[FloatArray]) -> FloatArray:
    """Return the 95 % intervals of the mean of the probabilities of several members.

    The variances within and between the members are added on the logit scale.

    Parameters
    ----------
    by_member : array, shape (M, n, K)
        Calibrated probabilities of each member.
    covariances : sequence of M arrays, shape (K, 2, 2)
        `calibration_covariance` of each member.

    Returns
    -------
    array of float64, shape (n, K, 2)
    """
    from scipy.special import expit

    members = [logits_and_deviation(p, covariance) for p, covariance in zip(by_member, covariances, strict=True)]
    logits = np.array([logit for logit, _ in members])
    deviations = np.array([deviation for _, deviation in members])
    spread = np.sqrt(np.square(deviations).mean(axis=0) + np.var(logits, axis=0))
    centre = _logit(by_member.mean(axis=0))
    return np.stack([expit(centre - NORMAL_QUANTILE * spread), expit(centre + NORMAL_QUANTILE * spread)], axis=-1)


def _logit(p: FloatArray) -> FloatArray:
    inside = p.clip(_TINY, 1 - _TINY)
    return np.log(inside) - np.log1p(-inside)
