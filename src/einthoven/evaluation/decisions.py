"""Count correct and wrong decisions for each class, and compute rates such as the sensitivity from the counts.

A rate is ``nan`` if its denominator is zero. Examples are the sensitivity of a class without any positive record, and
the predictive value of a decision that never occurs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray, check_labels_scores


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of each class, and rates that are computed from it.

    Attributes
    ----------
    tp, fp, fn, tn : array of float64, shape (..., K)
        Numbers of true positives, false positives, false negatives and true negatives. If the records have weights,
        each number is the sum of the weights of its records.
    """

    tp: FloatArray
    fp: FloatArray
    fn: FloatArray
    tn: FloatArray

    @property
    def sensitivity(self) -> FloatArray:
        """Share of the positive records that are decided positive. Also called recall."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> FloatArray:
        """Share of the negative records that are decided negative."""
        return _share(self.tn, self.tn + self.fp)

    @property
    def ppv(self) -> FloatArray:
        """Positive predictive value: share of the positive decisions that are correct. Also called precision."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def npv(self) -> FloatArray:
        """Negative predictive value: share of the negative decisions that are correct."""
        return _share(self.tn, self.tn + self.fn)

    @property
    def f1(self) -> FloatArray:
        """Harmonic mean of sensitivity and positive predictive value."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def kappa(self) -> FloatArray:
        """Cohen's kappa: agreement beyond chance (Cohen, Educational and Psychological Measurement 1960)."""
        total = self.tp + self.fp + self.fn + self.tn
        # Observed and expected agreement, both multiplied by the square of the total.
        observed = (self.tp + self.tn) * total
        expected = (self.tp + self.fp) * (self.tp + self.fn) + (self.tn + self.fn) * (self.tn + self.fp)
        return _share(observed - expected, total**2 - expected)


def confusion(y_true: npt.ArrayLike, decisions: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Confusion:
    """Count the correct and wrong decisions of each class.

    Parameters
    ----------
    y_true, decisions : array-like of 0 and 1, shape (n, K)
        Labels and decisions. For probabilities p (n, K) and thresholds t (K,), the decisions are ``p >= t``.
    weights : array-like, shape (..., n), optional
        Weight of each record. For B bootstrap resamples, pass how often each resample contains each record (B, n). The
        result then has one confusion matrix for each resample and class.

    Returns
    -------
    Confusion
        Its arrays have the shape (..., K).

    Raises
    ------
    UserError
        If a label or a decision is neither 0 nor 1, or if the shapes differ.
    """
    is_positive, decision_values = check_labels_scores(y_true, decisions)
    if not np.isin(decision_values, (0.0, 1.0)).all():
        raise UserError("Decisions must be 0 or 1, found other values: compare probabilities with a threshold first.")
    is_decided_positive = decision_values == 1
    record_weights = np.ones(len(is_positive)) if weights is None else np.asarray(weights, dtype=np.float64)
    if record_weights.shape[-1] != len(is_positive):
        shape = record_weights.shape
        raise UserError(f"One weight per record is needed, found shape {shape} for {len(is_positive)} records.")

    tp = record_weights @ (is_positive & is_decided_positive).astype(np.float64)
    num_positive = record_weights @ is_positive.astype(np.float64)
    num_decided_positive = record_weights @ is_decided_positive.astype(np.float64)
    total = record_weights.sum(axis=-1)[..., None]
    fp = num_decided_positive - tp
    fn = num_positive - tp
    tn = total - tp - fp - fn
    return Confusion(tp, fp, fn, tn)


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Return the quotient, or nan if the denominator is zero."""
    result = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result
