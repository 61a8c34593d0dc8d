"""Probes: what simple classifiers read from embeddings that they cannot change.

A linear probe asks whether the classes are linearly separable in the embedding (Alain and Bengio 2017, "Understanding
intermediate layers using linear classifier probes"). Nearest neighbours ask whether similar records are near to each
other, and have nothing to fit (Wu et al. 2018, "Unsupervised feature learning via non-parametric instance
discrimination").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray, auroc_per_class, have_both_labels

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty that a linear probe chooses from (``C`` of scikit-learn)."""

HELD_OUT = 5
"""One of so many parts of the training patients is held out to choose the strength."""

ITERATIONS = 1000
"""Most iterations of the optimizer of a logistic regression."""

_QUERIES_AT_ONCE = 1024
"""Records whose similarities to all training records are in memory together."""


@dataclass(frozen=True)
class LinearProbe:
    """A logistic regression for each class, on standardized embeddings.

    Attributes
    ----------
    mean, scale : ndarray (D,)
        Mean and standard deviation of the training embeddings; the scale of a constant value is 1.
    weights : ndarray (K, D)
    bias : ndarray (K,)
    inverse_strength : float
        The inverse strength of the L2 penalty, which is the same for all classes.
    """

    mean: FloatArray
    scale: FloatArray
    weights: FloatArray
    bias: FloatArray
    inverse_strength: float

    def logits(self, x: FloatArray) -> FloatArray:
        """Return the logits (n, K) of embeddings (n, D)."""
        standardized = (x - self.mean) / self.scale
        return standardized @ self.weights.T + self.bias


def fit_linear_probe(
    x: FloatArray,
    y: npt.NDArray[np.generic],
    patients: npt.NDArray[np.int64],
    *,
    seed: int = 0,
    strengths: Sequence[float] = STRENGTHS,
) -> LinearProbe:
    """Fit a logistic regression for each class.

    The strength of the L2 penalty is the one with the highest macro AUROC on a fifth of the patients, after a fit on
    the others. The probe is then fitted on all records.

    Parameters
    ----------
    x : ndarray (n, D)
        Embeddings of the training records.
    y : ndarray (n, K)
        Labels, 0 or 1. Each class has both.
    patients : ndarray (n,)
        Patient of each record.
    seed : int
        Seed of the choice of the patients.
    strengths : sequence of float
        Inverse strengths to choose from.

    Raises
    ------
    UserError
        If no class has both labels among the patients that are held out, and among the others.
    """
    inverse_strength = strengths[0]
    if len(strengths) > 1:
        inverse_strength = _choose_strength(x, y.astype(bool), patients, seed, strengths)
    return _fit(x, y.astype(bool), inverse_strength)


def _choose_strength(
    x: FloatArray,
    y: npt.NDArray[np.bool_],
    patients: npt.NDArray[np.int64],
    seed: int,
    strengths: Sequence[float],
) -> float:
    """Return the inverse strength with the highest macro AUROC on patients that are held out."""
    names, patient = np.unique(patients, return_inverse=True)
    part_of_patient = np.random.default_rng(seed).permutation(len(names)) % HELD_OUT
    is_held_out = part_of_patient[patient.reshape(-1)] == 0
    has_both_labels = have_both_labels(y[is_held_out]) & have_both_labels(y[~is_held_out])
    if not has_both_labels.any():
        raise UserError(
            f"a linear probe holds out a fifth of the {len(names)} patients of the training folds; expected more "
            "patients, so that a class has both labels in both parts."
        )
    y = y[:, has_both_labels]
    scores = []
    for inverse_strength in strengths:
        probe = _fit(x[~is_held_out], y[~is_held_out], inverse_strength)
        scores.append(auroc_per_class(y[is_held_out], probe.logits(x[is_held_out])).mean())
    return strengths[int(np.argmax(scores))]


def _fit(x: FloatArray, y: npt.NDArray[np.bool_], inverse_strength: float) -> LinearProbe:
    """Fit a logistic regression for each class, with one strength."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    standardized = scaler.transform(x)
    weights = []
    bias = []
    for k in range(y.shape[1]):
        regression = LogisticRegression(C=inverse_strength, max_iter=ITERATIONS).fit(standardized, y[:, k])
        weights.append(regression.coef_[0])
        bias.append(regression.intercept_[0])
    return LinearProbe(scaler.mean_, scaler.scale_, np.array(weights), np.array(bias), inverse_strength)


def neighbour_scores(
    train_x: FloatArray, train_y: npt.NDArray[np.generic], x: FloatArray, neighbours: int
) -> FloatArray:
    """Return the mean labels (n, K) of the nearest training records, by the cosine of the embeddings.

    Parameters
    ----------
    train_x : ndarray (m, D)
        Embeddings of the training records.
    train_y : ndarray (m, K)
        Their labels.
    x : ndarray (n, D)
        Embeddings of the records to score.
    neighbours : int
        Number of neighbours, at most m.

    Raises
    ------
    UserError
        If there are fewer training records than neighbours.
    """
    if not 1 <= neighbours <= len(train_x):
        raise UserError(f"neighbours={neighbours}: expected a number from 1 to the {len(train_x)} training records.")
    train_directions = _directions(train_x)
    labels = train_y.astype(np.float64)
    scores = []
    for first in range(0, len(x), _QUERIES_AT_ONCE):
        similarity = _directions(x[first : first + _QUERIES_AT_ONCE]) @ train_directions.T
        nearest = np.argpartition(-similarity, neighbours - 1, axis=1)[:, :neighbours]
        scores.append(labels[nearest].mean(axis=1))
    return np.concatenate(scores) if scores else np.zeros((0, labels.shape[1]))


def _directions(x: FloatArray) -> FloatArray:
    """Return vectors (n, D) divided by their lengths."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths > 0, lengths, 1.0)
