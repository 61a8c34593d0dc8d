"""Naive Bayes: given the class, each feature is normal and independent of the other features."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.functional.bayes import posterior, succession
from einthoven.models.features import FeatureModel

Float = NDArray[np.float64]

FLOOR = 1e-9
"""Smallest variance of a feature in a class, as a share of its variance over all records."""


class NaiveBayes(FeatureModel):
    """Gaussian naive Bayes. In a multi-label task, there is one classifier per label: with the label against without.

    A feature that was not measured (NaN) is left out of the product of the likelihoods. For independent features, this
    is the same as integrating over it. Features of an ECG are not independent, so the probabilities are too close to 0
    and 1. Their order is useful.

    Parameters
    ----------
    components : int
        Principal components of the beat among the features.

    References
    ----------
    Maron, "Automatic indexing: an experimental inquiry", J. ACM 8:404, 1961; Hand & Yu, "Idiot's Bayes: not so
    stupid after all?", Int. Stat. Rev. 69:385, 2001.
    """

    fitted_names: ClassVar[tuple[str, ...]] = ("mean", "variance", "prior", "single_label")

    def fit(self, x: Float, y: Float, *, single_label: bool, seed: int) -> Self:
        """Fit the mean and variance of each feature in each class, and the frequencies of the classes."""
        # One row per class: 1 for its records. A label of a multi-label task has two classes, without and with it.
        members = y.T if single_label else np.stack([1 - y.T, y.T], axis=1).reshape(-1, len(y))
        is_measured = np.isfinite(x)

        # A class in which a feature was never measured gets the moments of all records.
        mean, variance = _moments(np.ones((1, len(x))), x, is_measured)
        class_mean, class_variance = _moments(members, x, is_measured)
        has_moments = np.isfinite(class_mean)
        fitted_mean = np.where(has_moments, class_mean, mean)
        least_variance = np.where(variance > 0, FLOOR * variance, 1.0)
        fitted_variance = np.maximum(np.where(has_moments, class_variance, variance), least_variance)

        alternatives = len(members) if single_label else 2
        prior = succession(members.mean(axis=1), len(y), alternatives)
        self.fitted = {
            "mean": fitted_mean,
            "variance": fitted_variance,
            "prior": prior,
            "single_label": single_label,
        }
        return self

    def predict(self, x: Float) -> Float:
        """Return the posterior probabilities (n, K)."""
        is_measured = np.isfinite(x)
        filled = np.where(is_measured, x, 0.0)
        prior: Float = self.fitted["prior"]
        log_likelihood = np.empty((len(x), len(prior)))
        for k, (mean, variance) in enumerate(zip(self.fitted["mean"], self.fitted["variance"], strict=True)):
            log_density = -0.5 * (np.log(2 * np.pi * variance) + np.square(filled - mean) / variance)
            log_likelihood[:, k] = np.where(is_measured & np.isfinite(mean), log_density, 0.0).sum(axis=1)
        if self.fitted["single_label"]:
            return posterior(prior, log_likelihood)

        # The second class of each label is the class of the records with the label.
        pairs = posterior(prior.reshape(-1, 2), log_likelihood.reshape(len(x), -1, 2))
        return pairs[..., 1]


def _moments(members: Float, x: Float, is_measured: NDArray[np.bool_]) -> tuple[Float, Float]:
    """Return mean and variance (C, F) of the measured values of each class, or NaN if there are none."""
    count = members @ is_measured
    variances = []
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = members @ np.where(is_measured, x, 0.0) / count
        for class_members, class_mean, class_count in zip(members, mean, count, strict=True):
            squares = np.where(is_measured, np.square(x - class_mean), 0.0)
            variances.append(class_members @ squares / class_count)
    return mean, np.stack(variances)
