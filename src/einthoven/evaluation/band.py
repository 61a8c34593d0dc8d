"""How far a calibrated probability is known: a confidence band around it, from the records that calibrated it.

On the logit scale, ``logit P(y = 1) = a + b z`` relates what is observed to the stated logit z; calibrated
probabilities have a = 0 and b = 1, up to what as many records as there were can tell. The band is that uncertainty. It
says how well the share of positives among records with such a probability is known, and nothing of how surely the
network has read this one record (`einthoven.evaluation.uncertainty` does).
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray
from einthoven.evaluation.scores import check_probabilities

_TINY = 1e-12


def calibration_covariance(y_true: npt.ArrayLike, p: npt.ArrayLike, prior: float = 1.0) -> FloatArray:
    """Covariance of intercept and slope of the calibration line of each class, at the line a = 0, b = 1.

    The inverse of the observed information ``sum p (1 - p) [1, z] [1, z]^T``; a pull worth `prior` records keeps it
    finite where a class is told apart without an error.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels and calibrated probabilities of the records that the calibration was fitted on.
    prior : float
        0 or more.

    Returns
    -------
    array of float64, shape (K, 2, 2)
        NaN for a class without both labels.

    Raises
    ------
    UserError
        If the prior is negative; otherwise see `einthoven.evaluation.scores.check_probabilities`.

    References
    ----------
    Cox, "Two further applications of a model for binary regression", Biometrika 1958: the line; McCullagh and Nelder,
    "Generalized linear models", 1989, section 4.4: its covariance.
    """
    if not prior >= 0:
        raise UserError(f"prior={prior}: expected a number of records, 0 or more.")
    positive, probability = check_probabilities(y_true, p)
    z = _logit(probability)
    weight = probability * (1 - probability)
    information = np.empty((z.shape[1], 2, 2))
    for i, j, factor in ((0, 0, np.ones_like(z)), (0, 1, z), (1, 1, z * z)):
        information[:, i, j] = information[:, j, i] = (weight * factor).sum(axis=0)
    covariance: FloatArray = np.asarray(np.linalg.inv(information + max(prior, _TINY) * np.eye(2)), np.float64)
    covariance[~(positive.any(axis=0) & ~positive.all(axis=0))] = np.nan
    return covariance


def probability_interval(p: npt.ArrayLike, covariance: npt.ArrayLike, level: float = 0.95) -> FloatArray:
    """Interval of each calibrated probability.

    Parameters
    ----------
    p : array-like, shape (n, K)
    covariance : array-like, shape (K, 2, 2)
        From `calibration_covariance`.
    level : float
        Nominal coverage.

    Returns
    -------
    array of float64, shape (n, K, 2)
        Low and high; NaN where the covariance is.
    """
    from scipy.special import expit

    z, spread = logits_and_deviation(p, covariance)
    reach = NormalDist().inv_cdf(0.5 + level / 2) * spread
    interval: FloatArray = np.stack([expit(z - reach), expit(z + reach)], axis=-1)
    return interval


def logits_and_deviation(p: npt.ArrayLike, covariance: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Logits of calibrated probabilities (n, K), and the standard deviation of each."""
    z, c = _logit(np.asarray(p, dtype=np.float64)), np.asarray(covariance, dtype=np.float64)
    variance = c[:, 0, 0] + 2 * z * c[:, 0, 1] + z * z * c[:, 1, 1]
    return z, np.sqrt(np.maximum(variance, 0.0))


def _logit(p: FloatArray) -> FloatArray:
    inside = p.clip(_TINY, 1 - _TINY)
    z: FloatArray = np.log(inside) - np.log1p(-inside)
    return z
