"""Naive Bayes: each feature is normal given the class, and independent of the others given the class."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.bayes import posterior, succession
from einthoven.models.features import FeatureModel

Float = NDArray[np.float64]

FLOOR = 1e-9  # of a feature's variance over all records: no class may be surer than that


class NaiveBayes(FeatureModel):
    """Gaussian naive Bayes; of several labels, one for each against the records without it.

    A feature that was not measured (NaN) is left out of the product of the likelihoods, which is what integrating it
    out comes to where features are independent. Features of an ECG are not: the probabilities are too sure of
    themselves, their order is what is useful.

    Parameters
    ----------
    components : int
        Principal components of the beat among the features.

    References
    ----------
    Maron, "Automatic indexing: an experimental inquiry", J. ACM 8:404, 1961; Hand & Yu, "Idiot's Bayes: not so
    stupid after all?", Int. Stat. Rev. 69:385, 2001.
    """

    def fit(self, x: Float, y: Float, *, single_label: bool, seed: int) -> Self:
        """Mean and variance of each feature in each class, by maximum likelihood, and the classes' frequencies."""
        self._single_label = single_label
        members = y.T if single_label else np.stack([1 - y.T, y.T], axis=1).reshape(-1, len(y))
        known = np.isfinite(x)
        mean, variance = _moments(np.ones((1, len(x))), x, known)
        # a class in which a feature was never measured takes the moments of all records
        own_mean, own_variance = _moments(members, x, known)
        self._mean = np.where(np.isfinite(own_mean), own_mean, mean)
        spread = np.where(np.isfinite(own_mean), own_variance, variance)
        self._variance = np.maximum(spread, np.where(variance > 0, FLOOR * variance, 1.0))
        self._prior = succession(members.mean(axis=1), len(y), len(members) if single_label else 2)
        return self

    def predict(self, x: Float) -> Float:
        """Posterior probabilities (n, K)."""
        known = np.isfinite(x)
        filled = np.where(known, x, 0.0)
        log_likelihood = np.empty((len(x), len(self._mean)))
        for k, (mean, variance) in enumerate(zip(self._mean, self._variance, strict=True)):
            log_density = -0.5 * (np.log(2 * np.pi * variance) + np.square(filled - mean) / variance)
            log_likelihood[:, k] = np.where(known & np.isfinite(mean), log_density, 0.0).sum(axis=1)
        if self._single_label:
            return posterior(self._prior, log_likelihood)
        return posterior(self._prior.reshape(-1, 2), log_likelihood.reshape(len(x), -1, 2))[..., 1]

    def state(self) -> dict[str, Any]:
        """The moments and priors."""
        return {
            "mean": self._mean,
            "variance": self._variance,
            "prior": self._prior,
            "single_label": self._single_label,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self._mean, self._variance = state["mean"], state["variance"]
        self._prior, self._single_label = state["prior"], state["single_label"]


def _moments(members: Float, x: Float, known: NDArray[np.bool_]) -> tuple[Float, Float]:
    """Mean and variance (C, F) of the measured values of each class; NaN where there are none."""
    count = members @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = members @ np.where(known, x, 0.0) / count
        variance = np.stack(
            [m @ np.where(known, np.square(x - c), 0.0) / n for m, c, n in zip(members, mean, count, strict=True)]
        )
    return mean, variance
