"""What a threshold makes of probabilities: counts of right and wrong decisions, and the rates made of them.

A rate without any record to be a rate of (the sensitivity of a class that nobody has, the predictive value of a
decision that is never taken) is ``nan``: never 0 and never 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray, check_labels_scores


@dataclass(frozen=True)
class Confusion:
    """Right and wrong decisions of each class, and the rates made of them.

    Attributes
    ----------
    tp, fp, fn, tn : array of float64, shape (..., K)
        Records (or sums of their weights) that are decided positive and are, decided positive and are not, decided
        negative and are not, and so on.
    """

    tp: FloatArray
    fp: FloatArray
    fn: FloatArray
    tn: FloatArray

    @property
    def sensitivity(self) -> FloatArray:
        """Share of the positive records that are found; recall."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> FloatArray:
        """Share of the negative records that are left alone."""
        return _share(self.tn, self.tn + self.fp)

    @property
    def ppv(self) -> FloatArray:
        """Share of the positive decisions that are right; precision."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> FloatArray:
        """Share of the negative decisions that are right."""
        return _share(self.tn, self.tn + self.fn)

    @property
    def f1(self) -> FloatArray:
        """Harmonic mean of sensitivity and positive predictive value."""
        return self.f_beta(1.0)

    def f_beta(self, beta: float) -> FloatArray:
        """F measure that weighs sensitivity `beta` times as much as precision (van Rijsbergen 1979)."""
        return _share((1 + beta**2) * self.tp, (1 + beta**2) * self.tp + self.fp + beta**2 * self.fn)

    def g_beta(self, beta: float) -> FloatArray:
        """Jaccard measure with misses weighed by `beta`: ``tp / (tp + fp + beta fn)``."""
        return _share(self.tp, self.tp + self.fp + beta * self.fn)

    @property
    def kappa(self) -> FloatArray:
        """Agreement beyond chance (Cohen, Educational and Psychological Measurement 1960)."""
        total = self.tp + self.fp + self.fn + self.tn
        agreed = (self.tp + self.tn) * total
        chance = (self.tp + self.fp) * (self.tp + self.fn) + (self.tn + self.fn) * (self.tn + self.fp)
        return _share(agreed - chance, total**2 - chance)


def confusion(y_true: npt.ArrayLike, stated: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Confusion:
    """Count the right and wrong decisions of each class.

    Parameters
    ----------
    y_true, stated : array-like of 0 and 1, shape (n, K)
        Labels and decisions. At thresholds t (K,), the decisions are ``p >= t``.
    weights : array-like, shape (..., n), optional
        How much each record counts: the counts of resamples give the confusion of each resample.

    Returns
    -------
    Confusion
        Of shape (..., K).

    Raises
    ------
    UserError
        If a label or a decision is neither 0 nor 1, or shapes differ.
    """
    positive, decisions = check_labels_scores(y_true, stated)
    if not np.isin(decisions, (0.0, 1.0)).all():
        raise UserError("Decisions must be 0 or 1, found other values: compare probabilities with a threshold first.")
    decided = decisions == 1
    counts = np.ones(len(positive)) if weights is None else np.asarray(weights, dtype=np.float64)
    if counts.shape[-1] != len(positive):
        raise UserError(f"One weight per record is needed, found shape {counts.shape} for {len(positive)} records.")
    tp, positives, stated_number = (
        counts @ array.astype(np.float64) for array in (positive & decided, positive, decided)
    )
    total = counts.sum(axis=-1)[..., None]
    fp, fn = stated_number - tp, positives - tp
    return Confusion(tp, fp, fn, total - tp - fp - fn)


def icbeb_measures(y_true: npt.ArrayLike, stated: npt.ArrayLike, beta: float = 2.0) -> tuple[float, float]:
    """F-beta and G-beta as ICBEB 2018 data are scored: each record counts 1 over the number of its labels.

    Parameters
    ----------
    y_true, stated : array-like of 0 and 1, shape (n, K)
        Labels and decisions.
    beta : float
        Weight of misses.

    Returns
    -------
    f_beta, g_beta : float
        Means over the classes for which they are defined: those with a positive record or decision.

    Raises
    ------
    UserError
        If no class has any, or as in `confusion`.

    References
    ----------
    Perez Alday et al., "Classification of 12-lead ECGs: the PhysioNet/Computing in Cardiology Challenge 2020",
    Physiological Measurement 2020; Strodthoff et al., IEEE JBHI 2021, section IV (ICBEB2018).
    """
    labels = np.asarray(y_true, dtype=np.float64)
    counted = confusion(y_true, stated, 1 / np.maximum(labels.sum(axis=-1), 1))
    f, g = counted.f_beta(beta), counted.g_beta(beta)
    defined = ~np.isnan(f)
    if not defined.any():
        raise UserError("F-beta and G-beta need a class with a positive record or decision, found none.")
    return float(f[defined].mean()), float(g[defined].mean())


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Quotient, nan where there is nothing to be a share of."""
    result = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result
