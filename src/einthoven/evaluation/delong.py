"""DeLong's variance of AUROCs: no resampling, one class at a time; a cross-check of the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray, check_labels_scores, midranks


@dataclass(frozen=True)
class DeLong:
    """AUROCs of several scores of the same records, and how they vary together.

    Attributes
    ----------
    auroc : array of float64, shape (M,)
    covariance : array of float64, shape (M, M)
    """

    auroc: FloatArray
    covariance: FloatArray

    def interval(self, level: float = 0.95) -> FloatArray:
        """Normal intervals, (M, 2), not beyond 0 ... 1."""
        from scipy.special import ndtri

        half = ndtri((1 + level) / 2) * np.sqrt(np.diag(self.covariance))
        return np.stack([self.auroc - half, self.auroc + half], axis=1).clip(0.0, 1.0)

    def difference(self, a: int = 0, b: int = 1) -> tuple[float, float, float]:
        """AUROC of score b minus that of a, its standard error, and the two-sided p of a normal test."""
        from scipy.special import ndtr

        difference = float(self.auroc[b] - self.auroc[a])
        variance = self.covariance[a, a] + self.covariance[b, b] - 2 * self.covariance[a, b]
        error = float(np.sqrt(max(variance, 0.0)))
        if error == 0:  # such as the same scores twice
            return difference, error, 1.0 if difference == 0 else 0.0
        return difference, error, float(2 * ndtr(-abs(difference) / error))


def delong(y_true: npt.ArrayLike, scores: npt.ArrayLike) -> DeLong:
    """AUROCs of one class under several scores, and their covariance, in n log n.

    The covariance of the structural components of DeLong et al., which mid-ranks give without looking at pairs: of a
    positive, the share of negatives below it is ``(its rank among all - its rank among the positives) / N``.

    Parameters
    ----------
    y_true : array-like, shape (n,)
        Labels, each 0 or 1; at least two of each.
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
    pos, neg = columns[label], columns[~label]
    if min(len(pos), len(neg)) < 2:
        raise UserError(f"DeLong's variance needs two records of each label, found {len(pos)} and {len(neg)}.")
    among_all = midranks(columns)
    above = (among_all[label] - midranks(pos)) / len(neg)  # of each positive: share of negatives below
    below = 1 - (among_all[~label] - midranks(neg)) / len(pos)  # of each negative: share of positives above
    covariance = np.atleast_2d(np.cov(above, rowvar=False)) / len(pos)
    covariance = covariance + np.atleast_2d(np.cov(below, rowvar=False)) / len(neg)
    return DeLong(above.mean(axis=0), covariance)
