"""Laplace approximation of a last layer: how sure its weights are, and what that does to the probabilities.

The posterior of the weights of a logistic layer is taken as the normal distribution that has its peak and its curvature
there. MacKay, "The evidence framework applied to classification networks", Neural Comput. 4:720, 1992; on the last
layer of a deep network: Daxberger et al., "Laplace redux", NeurIPS 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Float = NDArray[np.float64]

ROUNDS = 100  # of the fixed point for the prior precision, at most
FLAT = 1e-9  # precision of the bias, whose prior is flat: for a unit that is certain of every record


@dataclass(frozen=True)
class LastLayer:
    """Normal posterior of K logistic units on d features and a bias.

    Attributes
    ----------
    weights : ndarray, shape (K, d + 1)
        Means: the trained weights, the bias last.
    covariance : ndarray, shape (K, d + 1, d + 1)
    prior_precision : float
        Of the normal prior of each weight, around zero; that of the bias is flat.
    """

    weights: Float
    covariance: Float
    prior_precision: float

    def predict(self, features: NDArray[np.floating]) -> Float:
        """Probabilities (n, K) of features (n, d), the weights integrated out.

        ``E[sigmoid(a)] ≈ sigmoid(m / sqrt(1 + π v / 8))`` for a logit a of mean m and variance v (MacKay 1992,
        equation 10): never surer than the trained weights alone, and least sure far from the training records.
        """
        phi = with_bias(features)
        mean = phi @ self.weights.T
        variance = np.stack([((phi @ one) * phi).sum(axis=1) for one in self.covariance], axis=1)
        return np.asarray(expit(mean / np.sqrt(1.0 + np.pi / 8.0 * variance)))


def fit_last_layer(
    features: NDArray[np.floating],
    weights: NDArray[np.floating],
    prior_precision: float | None = None,
    share: float = 1.0,
) -> LastLayer:
    """Curvature of the negative log posterior at trained weights.

    Parameters
    ----------
    features : ndarray, shape (n, d)
        What the layer saw of the training records.
    weights : ndarray, shape (K, d + 1)
        As trained, the bias last.
    prior_precision : float or None
        Inverse variance of the prior. None: where the evidence is largest, by MacKay's fixed point
        ``τ = γ / |w|²`` with γ the number of well-determined weights (1992, equation 6). A decoupled weight decay
        is no Gaussian prior, so the optimizer's does not say it.
    share : float
        Of a record in each row, where records have several.

    Returns
    -------
    LastLayer
    """
    phi, w = with_bias(features), np.asarray(weights, dtype=np.float64)
    p = expit(phi @ w.T)
    information = fisher_information(phi, share * p * (1 - p))
    size = max(float(np.square(w[:, :-1]).sum()), 1e-12)
    tau = prior_precision or w[:, :-1].size / size
    covariance = posterior_covariance(information, tau)
    for _ in range(0 if prior_precision else ROUNDS):
        determined = w[:, :-1].size - tau * float(np.einsum("kdd->kd", covariance)[:, :-1].sum())
        new = max(determined, 1e-6) / size
        settled, tau = abs(new - tau) < 1e-6 * tau, new
        covariance = posterior_covariance(information, tau)
        if settled:
            break
    return LastLayer(w, covariance, tau)


def fisher_information(phi: Float, curvature: Float) -> Float:
    """Curvature of the negative log-likelihood in the weights of each unit: ``Φᵀ diag(h) Φ``, (K, D, D).

    Parameters
    ----------
    phi : ndarray, shape (n, D)
        Features, the constant last.
    curvature : ndarray, shape (n, K)
        h, the second derivative of each record's negative log-likelihood in its logit: ``p (1 - p)`` of a Bernoulli
        distribution, ``1 / σ²`` of a Gaussian.
    """
    return np.stack([(phi * h[:, None]).T @ phi for h in curvature.T])


def posterior_covariance(information: Float, prior_precision: float) -> Float:
    """Inverse of information plus prior precision, (K, D, D); exact where the likelihood is Gaussian."""
    prior = np.full(information.shape[-1], prior_precision)
    prior[-1] = FLAT
    return np.asarray(np.linalg.inv(information + np.diag(prior)), dtype=np.float64)


def with_bias(features: NDArray[np.floating]) -> Float:
    """Append the constant feature 1: (n, d) -> (n, d + 1)."""
    return np.concatenate([np.asarray(features, dtype=np.float64), np.ones((len(features), 1))], axis=1)
