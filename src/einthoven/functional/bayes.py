"""Bayes' rule: posterior ∝ likelihood × prior. It uses logarithms, so that small likelihoods do not become zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from einthoven.errors import UserError

Float = NDArray[np.float64]


def posterior(prior: ArrayLike, log_likelihood: ArrayLike) -> Float:
    """Compute the posterior of K hypotheses, ``p(k | x) = p(x | k) p(k) / sum_j p(x | j) p(j)``.

    Parameters
    ----------
    prior : array-like, shape (..., K)
        Prior probabilities, at least 0. They need not sum to 1.
    log_likelihood : array-like, shape (..., K)
        Natural logarithm of p(x | k), up to one constant per case. The log-likelihoods of independent observations are
        added.

    Returns
    -------
    ndarray, shape (..., K)
        Posterior probabilities that sum to 1. They are exact even if every likelihood is below the smallest float.

    References
    ----------
    Bayes, Phil. Trans. 53:370, 1763; MacKay, "Information Theory, Inference, and Learning Algorithms", equation 2.28.
    """
    with np.errstate(divide="ignore"):
        joint = np.log(np.asarray(prior, dtype=np.float64)) + np.asarray(log_likelihood, dtype=np.float64)
    weight = np.exp(joint - joint.max(axis=-1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


def predictive_values(
    sensitivity: ArrayLike, specificity: ArrayLike, prevalence: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the positive and the negative predictive value of a test at a given prevalence.

    ``PPV = se π / (se π + (1 - sp)(1 - π))`` is the posterior probability of disease after a positive result.
    ``NPV = sp (1 - π) / (sp (1 - π) + (1 - se) π)`` is the posterior probability of no disease after a negative result.
    Both depend on the population, because its prevalence does. They change if a test moves from a clinic to a
    screening, even if sensitivity and specificity stay the same.

    Parameters
    ----------
    sensitivity, specificity, prevalence : array-like
        Values from 0 to 1. They are broadcast against one another.

    Returns
    -------
    ppv, npv : ndarray
        NaN if the result (positive or negative) never occurs.

    Raises
    ------
    UserError
        If a value lies outside 0 to 1.

    References
    ----------
    Vecchio, "Predictive value of a single diagnostic test in unselected populations", N. Engl. J. Med. 274:1171, 1966.
    """
    values = {"sensitivity": sensitivity, "specificity": specificity, "prevalence": prevalence}
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
    for name, array in arrays.items():
        if not ((array >= 0) & (array <= 1)).all():
            raise UserError(f"{name}={array.tolist()}: expected a value from 0 to 1.")
    se, sp, pi = arrays.values()
    with np.errstate(invalid="ignore"):
        ppv = se * pi / (se * pi + (1 - sp) * (1 - pi))
        npv = sp * (1 - pi) / (sp * (1 - pi) + (1 - se) * pi)
    return np.asarray(ppv), np.asarray(npv)


def succession(frequency: ArrayLike, count: int, kinds: int = 2) -> Float:
    """Apply Laplace's rule of succession: add one case of each kind to frequencies among `count` cases.

    The result is ``(count f + 1) / (count + kinds)``, the posterior mean under a uniform prior. So a kind that never
    occurred gets a small probability instead of zero, whose logarithm would be infinite. Source: Laplace 1774,
    "Mémoire sur la probabilité des causes par les évènements".
    """
    cases = count * np.asarray(frequency, dtype=np.float64)
    return np.asarray((cases + 1.0) / (count + kinds))
