"""Laplace approximation of the last layer: the uncertainty of its weights, and probabilities that include it.

The posterior of the weights of a logistic layer is approximated by a normal distribution with the same peak, and with
the same curvature at the peak. Source: MacKay, "The evidence framework applied to classification networks", Neural
Comput. 4:720, 1992. For the last layer of a deep network: Daxberger et al., "Laplace redux", NeurIPS 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Float = NDArray[np.float64]

MAX_ITERATIONS = 100
"""Largest number of iterations of the fixed point for the prior precision."""

BIAS_PRECISION = 1e-9
"""Prior precision of the bias. The prior is almost flat. Above zero, the covariance is finite for a unit whose
probabilities are all 0 or 1."""


@dataclass(frozen=True)
class LastLayer:
    """Normal posterior of K logistic units with d features and a bias.

    Attributes
    ----------
    weights : ndarray, shape (K, d + 1)
        Means of the weights, which are the trained weights. The bias comes last.
    covariance : ndarray, shape (K, d + 1, d + 1)
        Covariance of the weights of each unit.
    prior_precision : float
        Inverse variance of the normal prior of each weight. Its mean is zero. The prior of the bias is almost flat.
    """

    weights: Float
    covariance: Float
    prior_precision: float

    def predict(self, features: NDArray[np.floating]) -> Float:
        """Compute the probabilities (n, K) of features (n, d), averaged over the posterior of the weights.

        ``E[sigmoid(a)] ≈ sigmoid(m / sqrt(1 + π v / 8))`` for a logit a with mean m and variance v (MacKay 1992,
        equation 10). The result is never closer to 0 or 1 than that of the trained weights. Far from the training
        records, it is close to 0.5.
        """
        phi = append_bias(features)
        mean = phi @ self.weights.T
        variances = [((phi @ covariance) * phi).sum(axis=1) for covariance in self.covariance]
        variance = np.stack(variances, axis=1)
        return np.asarray(expit(mean / np.sqrt(1.0 + np.pi / 8.0 * variance)))


def fit_last_layer(
    features: NDArray[np.floating],
    weights: NDArray[np.floating],
    prior_precision: float | None = None,
    share: float = 1.0,
) -> LastLayer:
    """Compute the posterior from the curvature of the negative log posterior at the trained weights.

    Parameters
    ----------
    features : ndarray, shape (n, d)
        Inputs of the last layer for the training records.
    weights : ndarray, shape (K, d + 1)
        Trained weights. The bias comes last.
    prior_precision : float or None
        Inverse variance of the prior. None chooses the precision with the largest evidence, by MacKay's fixed point
        ``τ = γ / |w|²``, where γ is the number of well-determined weights (1992, equation 6). The weight decay of the
        optimizer cannot be used. It is decoupled, and so it is not a Gaussian prior.
    share : float
        Weight of each row: 1 over the number of rows per record.

    Returns
    -------
    LastLayer
    """
    phi = append_bias(features)
    w = np.asarray(weights, dtype=np.float64)
    p = expit(phi @ w.T)
    information = fisher_information(phi, share * p * (1 - p))

    # The prior applies to the weights without the bias.
    num_weights = w[:, :-1].size
    squared_norm = max(float(np.square(w[:, :-1]).sum()), 1e-12)
    if prior_precision:
        return LastLayer(w, posterior_covariance(information, prior_precision), prior_precision)

    tau = num_weights / squared_norm
    covariance = posterior_covariance(information, tau)
    for _ in range(MAX_ITERATIONS):
        trace = float(np.einsum("kdd->kd", covariance)[:, :-1].sum())
        well_determined = num_weights - tau * trace
        previous_tau = tau
        tau = max(well_determined, 1e-6) / squared_norm
        covariance = posterior_covariance(information, tau)
        if abs(tau - previous_tau) < 1e-6 * previous_tau:
            break
    return LastLayer(w, covariance, tau)


def fisher_information(phi: Float, curvature: Float) -> Float:
    """Return the curvature of the negative log-likelihood in the weights of each unit: ``Φᵀ diag(h) Φ``, (K, D, D).

    Parameters
    ----------
    phi : ndarray, shape (n, D)
        Features. The constant feature comes last.
    curvature : ndarray, shape (n, K)
        h, the second derivative of the negative log-likelihood of each record with respect to its logit. It is
        ``p (1 - p)`` for a Bernoulli distribution and ``1 / σ²`` for a Gaussian.
    """
    return np.stack([(phi * h[:, None]).T @ phi for h in curvature.T])


def posterior_covariance(information: Float, prior_precision: float) -> Float:
    """Return the inverse of information plus prior precision, (K, D, D). It is exact for a Gaussian likelihood."""
    prior = np.full(information.shape[-1], prior_precision)
    prior[-1] = BIAS_PRECISION
    return np.asarray(np.linalg.inv(information + np.diag(prior)), dtype=np.float64)


def append_bias(features: NDArray[np.floating]) -> Float:
    """Append the constant feature 1: (n, d) -> (n, d + 1)."""
    return np.concatenate([np.asarray(features, dtype=np.float64), np.ones((len(features), 1))], axis=1)
