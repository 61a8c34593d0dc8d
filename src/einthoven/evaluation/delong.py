"""DeLong's variance of AUROCs. It needs no resampling and works on one class. It is a cross-check of the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray, check_labels_scores, midranks


@dataclass(frozen=True)
class DeLong:
    """AUROCs of several scores of the same records, and their covariance.

    Attributes
    ----------
    auroc : array of float64, shape (M,)
        AUROC of each score.
    covariance : array of float64, shape (M, M)
        Covariance of the AUROCs.
    """

    auroc: FloatArray
    covariance: FloatArray

    def interval(self, level: float = 0.95) -> FloatArray:
        """Return normal intervals (M, 2), limited to 0 ... 1."""
        from scipy.special import ndtri

        half_width = ndtri((1 + level) / 2) * np.sqrt(np.diag(self.covariance))
        return np.stack([self.auroc - half_width, self.auroc + half_width], axis=1).clip(0.0, 1.0)

    def difference(self, a: int = 0, b: int = 1) -> tuple[float, float, float]:
        """Return the AUROC of b minus that of a, the standard error, and the two-sided p-value of a normal test."""
        from scipy.special import ndtr

        difference = float(self.auroc[b] - self.auroc[a])
        variance = self.covariance[a, a] + self.covariance[b, b] - 2 * self.covariance[a, b]
        standard_error = float(np.sqrt(max(variance, 0.0)))
        # Two equal scores have no error.
        if standard_error == 0:
            p = 1.0 if difference == 0 else 0.0
        else:
            p = float(2 * ndtr(-abs(difference) / standard_error))
        return difference, standard_error, p


def delong(y_true: npt.ArrayLike, scores: npt.ArrayLike) -> DeLong:
    """Compute the AUROCs of one class with several scores, and their covariance, in n log n steps.

    It is the covariance of the structural components of DeLong et al. Mid-ranks give these components without a loop
    over pairs. For example, the share of the N negatives below a positive is
    ``(its rank among all records - its rank among the positives) / N``.

    Parameters
    ----------
    y_true : array-like, shape (n,)
        Labels, each 0 or 1. Each label occurs at least twice.
    scores : array-like, shape (n, M)
        M scores of the same records, higher for positive.

    Raises
    ------
    UserError
        If there are fewer than two records with either label; otherwise see
        `einthoven.evaluation.metrics.check_labels_scores`.

    References
    ----------
    DeLong, DeLong, Clarke-Pearson, Biometrics 1988; Sun and Xu, "Fast implementation of DeLong's algorithm", IEEE
    Signal Processing Letters 2014.
    """
    columns = np.asarray(scores, dtype=np.float64)
    labels = np.broadcast_to(np.asarray(y_true)[:, None], columns.shape)
    positive, columns = check_labels_scores(labels, columns)
    label = positive[:, 0]
    positives = columns[label]
    negatives = columns[~label]
    if min(len(positives), len(negatives)) < 2:
        raise UserError(
            f"DeLong's variance needs two records of each label, found {len(positives)} and {len(negatives)}."
        )
    ranks = midranks(columns)
    negatives_below = (ranks[label] - midranks(positives)) / len(negatives)
    positives_above = 1 - (ranks[~label] - midranks(negatives)) / len(positives)
    covariance = np.atleast_2d(np.cov(negatives_below, rowvar=False)) / len(positives)
    covariance = covariance + np.atleast_2d(np.cov(positives_above, rowvar=False)) / len(negatives)
    return DeLong(negatives_below.mean(axis=0), covariance)
