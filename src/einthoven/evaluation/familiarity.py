"""Whether a record is like those that a model was trained on: the distance of what the network makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray

MOST_FEATURES = 1024
"""Features beyond which no covariance is kept."""


@dataclass(frozen=True)
class Familiarity:
    """Mahalanobis distance from the training records, judged by that of records which were not trained on.

    Attributes
    ----------
    mean : array of float, shape (D,)
        Of the features of the training records.
    whitening : array of float, shape (D, D)
        ``(f - mean) @ whitening`` has covariance 1 on them.
    held : array of float64, shape (m,)
        Distances of records that were not trained on, ascending.

    References
    ----------
    Lee, Lee, Lee, Shin, "A simple unified framework for detecting out-of-distribution samples and adversarial attacks",
    NeurIPS 2018, with one mean for all classes, as records have several; covariance: Ledoit and Wolf, J. Multivariate
    Analysis 2004; share: Bates, Candes, Lei, Romano, Sesia, "Testing for outliers with conformal p-values", 2023.
    """

    mean: FloatArray
    whitening: FloatArray
    held: FloatArray

    @classmethod
    def fit(cls, train: npt.ArrayLike, held: npt.ArrayLike) -> Familiarity:
        """Fit to features (n, D) of training records, and to those (m, D) of records that were not trained on.

        Raises
        ------
        UserError
            If there are fewer than two training records or none of the others, or more than 1024 features.
        """
        from sklearn.covariance import ledoit_wolf

        x = np.asarray(train, dtype=np.float64)
        if len(x) < 2 or not len(np.asarray(held)):
            raise UserError("Features of two training records and of one other are needed at least.")
        if x.shape[1] > MOST_FEATURES:
            raise UserError(f"{x.shape[1]} features found; expected {MOST_FEATURES} at most.")
        mean = x.mean(axis=0)
        values, vectors = np.linalg.eigh(ledoit_wolf(x)[0])
        whitening = vectors / np.sqrt(np.maximum(values, values[-1] * 1e-9 + 1e-30))
        found = cls(mean, whitening, np.zeros(0))
        return cls(mean, whitening, np.sort(found.distance(held)))

    def distance(self, features: npt.ArrayLike) -> FloatArray:
        """Mahalanobis distance of features (n, D) over the square root of D: about 1 for the training records."""
        centred = np.asarray(features, dtype=np.float64) - self.mean
        found: FloatArray = np.sqrt(np.square(centred @ self.whitening).mean(axis=1))
        return found

    def share(self, distance: npt.ArrayLike) -> FloatArray:
        """Share of records of the same kind that are as far off: a conformal p-value, ``(1 + #{held >= d}) / (m + 1)``.

        For a record like those of the calibration it falls below s with a probability of at most s.
        """
        beyond = len(self.held) - np.searchsorted(self.held, np.asarray(distance, dtype=np.float64), side="left")
        found: FloatArray = (1 + beyond) / (len(self.held) + 1)
        return found
