"""Bayes' rule: posterior ∝ likelihood × prior, in logarithms where numbers would vanish."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from einthoven.errors import UserError

Float = NDArray[np.float64]


def posterior(prior: ArrayLike, log_likelihood: ArrayLike) -> Float:
    """Posterior of K hypotheses, ``p(k | x) = p(x | k) p(k) / sum_j p(x | j) p(j)``.

    Parameters
    ----------
    prior : array-like, shape (..., K)
        At least 0; those of one case need not sum to 1.
    log_likelihood : array-like, shape (..., K)
        Natural logarithm of p(x | k), up to one constant per case. Independent observations add up.

    Returns
    -------
    ndarray, shape (..., K)
        Sums to 1. Exact also where every likelihood is below the smallest float.

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
    """Positive and negative predictive value of a test at a stated prevalence.

    ``PPV = se π / (se π + (1 - sp)(1 - π))`` and ``NPV = sp (1 - π) / (sp (1 - π) + (1 - se) π)``: the posterior of
    disease after a positive answer, and of health after a negative one. A prevalence belongs to a population, so both
    change where a test moves from a clinic to a screening, even if sensitivity and specificity stay.

    Parameters
    ----------
    sensitivity, specificity, prevalence : array-like
        Within 0 and 1; broadcast against one another.

    Returns
    -------
    ppv, npv : ndarray
        NaN where the answer never occurs.

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
            raise UserError(f"{name}={array.tolist()}: expected within 0 and 1.")
    se, sp, pi = arrays.values()
    with np.errstate(invalid="ignore"):
        ppv = se * pi / (se * pi + (1 - sp) * (1 - pi))
        npv = sp * (1 - pi) / (sp * (1 - pi) + (1 - se) * pi)
    return np.asarray(ppv), np.asarray(npv)


def succession(frequency: ArrayLike, count: int, kinds: int = 2) -> Float:
    """Laplace's rule of succession: frequencies among `count` cases, with one more case of each kind.

    ``(count f + 1) / (count + kinds)``: the posterior mean under a uniform prior. What was never seen gets a small
    probability instead of none, whose likelihood would be zero and its logarithm infinite (Laplace 1774, "Mémoire sur
    la probabilité des causes par les évènements").
    """
    return np.asarray((count * np.asarray(frequency, dtype=np.float64) + 1.0) / (count + kinds))
