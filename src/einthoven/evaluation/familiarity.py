"""Familiarity: whether a record is similar to the training records, measured by the distance of its features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray

MAX_FEATURES = 1024
"""Largest number of features. The covariance of more features would take too much memory."""


def shrunk_covariance(x: FloatArray) -> FloatArray:
    """Estimate the covariance (D, D) of features (n, D), with the shrinkage of Ledoit and Wolf towards a multiple of I.

    It is that of scikit-learn, whose import would take longer than the end of a short training.

    References
    ----------
    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of Multivariate
    Analysis 2004, lemmas 3.2 to 3.4: mu is m, delta is d², beta is b².
    """
    n, num_features = x.shape
    centred = x - x.mean(axis=0)
    sample = centred.T @ centred / n
    mu = np.trace(sample) / num_features
    delta = np.square(sample - mu * np.eye(num_features)).sum() / num_features
    # The mean squared distance of the products of single records from their mean.
    squared_norms = np.square(centred).sum(axis=1)
    beta = (np.square(squared_norms).sum() / n - np.square(sample).sum()) / (n * num_features)
    shrinkage = min(beta, delta) / delta if delta > 0 else 0.0
    return (1 - shrinkage) * sample + shrinkage * mu * np.eye(num_features)


@dataclass(frozen=True)
class Familiarity:
    """Mahalanobis distance from the training records, compared with that of records that were not used in training.

    Attributes
    ----------
    mean : array of float, shape (D,)
        Mean of the features of the training records.
    whitening : array of float, shape (D, D)
        ``(f - mean) @ whitening`` has the identity matrix as covariance on the training records.
    held : array of float64, shape (m,)
        Distances of records that were not used in training, ascending.

    References
    ----------
    Lee, Lee, Lee, Shin, "A simple unified framework for detecting out-of-distribution samples and adversarial attacks",
    NeurIPS 2018. Here all classes have one mean, because a record can have several classes. The covariance: Ledoit and
    Wolf, J. Multivariate Analysis 2004. The share: Bates, Candes, Lei, Romano, Sesia, "Testing for outliers with
    conformal p-values", 2023.
    """

    mean: FloatArray
    whitening: FloatArray
    held: FloatArray

    @classmethod
    def fit(cls, train: npt.ArrayLike, held: npt.ArrayLike) -> Familiarity:
        """Fit to features (n, D) of training records, and to features (m, D) of records that were not used in training.

        Raises
        ------
        UserError
            If there are fewer than two training records, no other record, or more than 1024 features.
        """
        x = np.asarray(train, dtype=np.float64)
        if len(x) < 2 or not len(np.asarray(held)):
            raise UserError("Features of at least two training records and one other record are needed.")
        if x.shape[1] > MAX_FEATURES:
            raise UserError(f"{x.shape[1]} features found; expected {MAX_FEATURES} at most.")

        # Very small eigenvalues are raised, because their directions would dominate the distance.
        mean = x.mean(axis=0)
        values, vectors = np.linalg.eigh(shrunk_covariance(x))
        whitening = vectors / np.sqrt(np.maximum(values, values[-1] * 1e-9 + 1e-30))
        without_held = cls(mean, whitening, np.zeros(0))
        return cls(mean, whitening, np.sort(without_held.distance(held)))

    def distance(self, features: npt.ArrayLike) -> FloatArray:
        """Return the Mahalanobis distance (n,) of features (n, D), divided by the square root of D.

        It is about 1 for the training records.
        """
        centred = np.asarray(features, dtype=np.float64) - self.mean
        return np.sqrt(np.square(centred @ self.whitening).mean(axis=1))

    def share(self, distance: npt.ArrayLike) -> FloatArray:
        """Return the share of records of the same kind whose distance is at least as large.

        It is a conformal p-value: ``(1 + #{held >= d}) / (m + 1)``. For a record of the same kind as those in `held`,
        the probability that it is below s is at most s.
        """
        num_smaller = np.searchsorted(self.held, np.asarray(distance, dtype=np.float64), side="left")
        num_at_least = len(self.held) - num_smaller
        return (1 + num_at_least) / (len(self.held) + 1)
