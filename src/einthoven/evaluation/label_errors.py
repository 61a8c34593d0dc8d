"""Which labels are probably wrong: confident learning on out-of-fold predictions, and the area under the margin.

A task with several classes per record is treated as one binary problem for each class: the class against the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.bool_]
Float64 = NDArray[np.float64]

SMALLEST = 1e-6
"""Probabilities are kept this far away from 0 and 1, so that their log-odds are finite."""


def mean_confidences(y: Labels, p: Float64) -> tuple[Float64, Float64]:
    """Return how sure the model is on average of the labels of each class: the thresholds of confident learning.

    Parameters
    ----------
    y : ndarray of bool, shape (n, K)
        Given labels.
    p : ndarray, shape (n, K)
        Out-of-fold probabilities.

    Returns
    -------
    negative, positive : ndarray, shape (K,)
        Mean of 1 - p over the records with a negative label, and mean of p over those with a positive label. NaN for a
        class without such records.

    References
    ----------
    Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 2021, equation 2.
    """
    positives = y.sum(axis=0)
    negatives = len(y) - positives
    with np.errstate(invalid="ignore"):
        positive = np.where(y, p, 0.0).sum(axis=0) / positives
        negative = np.where(y, 0.0, 1.0 - p).sum(axis=0) / negatives
    return negative, positive


def confident_classes(y: Labels, p: Float64) -> NDArray[np.int64]:
    """Return what the model is confident of, for each record and class: 0, 1, or -1 for nothing.

    The model is confident of an outcome if its probability reaches the threshold of this outcome. If both do, the more
    probable one counts (Northcutt et al. 2021, equation 1). On a tie, it is the negative one, which NumPy's `argmax`
    would take, too.
    """
    negative, positive = mean_confidences(y, p)
    # A comparison with the NaN of a class without such records is false.
    is_positive = p >= positive
    is_negative = 1.0 - p >= negative
    is_both = is_positive & is_negative
    outcome = np.full(p.shape, -1, np.int64)
    outcome[is_negative] = 0
    outcome[is_positive & (~is_both | (p > 0.5))] = 1
    return outcome


def confident_joint(y: Labels, p: Float64) -> NDArray[np.int64]:
    """Return the confident joint of each class.

    Returns
    -------
    ndarray of int, shape (K, 2, 2)
        Number of records by given label (first index) and by the outcome that the model is confident of (second).
    """
    outcome = confident_classes(y, p)
    joint = np.zeros((p.shape[1], 2, 2), np.int64)
    for given in (0, 1):
        for confident in (0, 1):
            joint[:, given, confident] = ((y == given) & (outcome == confident)).sum(axis=0)
    return joint


def calibrated_joint(joint: NDArray[np.int64], y: Labels) -> Float64:
    """Return the confident joint, scaled so that it counts every record.

    Each row is scaled to the number of records with this given label (Northcutt et al. 2021, equation 3, times n). A
    row without a confident record is on the diagonal: nothing speaks against its labels.

    Parameters
    ----------
    joint : ndarray of int, shape (K, 2, 2)
    y : ndarray of bool, shape (n, K)

    Returns
    -------
    ndarray, shape (K, 2, 2)
    """
    counts = np.stack([(~y).sum(axis=0), y.sum(axis=0)], axis=1).astype(np.float64)
    sums = joint.sum(axis=2)
    shares = np.where(sums[:, :, None] > 0, joint / np.maximum(sums, 1)[:, :, None], np.eye(2))
    return shares * counts[:, :, None]


def is_confident_error(y: Labels, p: Float64) -> NDArray[np.bool_]:
    """Return which labels are off the diagonal of the confident joint: the model is confident of the other outcome."""
    outcome = confident_classes(y, p)
    return (outcome >= 0) & (outcome != y)


def log_odds(p: Float64) -> Float64:
    """Return the log-odds of probabilities, which are first limited to `SMALLEST` … 1 - `SMALLEST`."""
    limited = np.clip(p, SMALLEST, 1.0 - SMALLEST)
    return np.log(limited) - np.log1p(-limited)


def margins(y: Labels, odds: Float64) -> Float64:
    """Return the margin of each given label: the log-odds of a class, with the sign of its label.

    It is positive where the model agrees with the label. With the mean log-odds of the training, it is the area under
    the margin (Pleiss et al. 2020, equation 2) of the class against the rest.
    """
    return np.where(y, odds, -odds)


def label_conflicts(y: Labels) -> Float64:
    """Return how much each positive label contradicts another label of its record.

    It is the negative pointwise mutual information of two classes, log(P(a) P(b) / P(a, b)), for the pair that occurs
    together most rarely compared with chance (Church and Hanks, "Word association norms, mutual information, and
    lexicography", Computational Linguistics 1990). Each count is one record larger, so that a pair that occurs once is
    finite. The unit is nats, as of log-odds.

    Parameters
    ----------
    y : ndarray of bool, shape (n, K)

    Returns
    -------
    ndarray, shape (n, K)
        0 or more; 0 for a negative label, and for a label that goes with all others of its record.
    """
    positive = y.astype(np.float64)
    pairs = positive.T @ positive + 1.0
    counts = positive.sum(axis=0) + 1.0
    surprise = np.log(np.outer(counts, counts) / (len(y) * pairs))
    np.fill_diagonal(surprise, 0.0)
    conflicts = np.zeros(y.shape)
    for k in range(y.shape[1]):
        is_with = y & y[:, [k]]
        conflicts[:, k] = np.where(is_with, surprise[k], 0.0).max(axis=1, initial=0.0)
    return conflicts


@dataclass(frozen=True)
class LabelRanking:
    """Records in the order in which their labels should be looked at.

    Attributes
    ----------
    order : ndarray of int, shape (n,)
        Rows of the records, the most suspicious first.
    label_scores : ndarray, shape (n, K)
        How much speaks against each label, in nats.
    record_scores : ndarray, shape (n,)
        Largest score of the labels of each record.
    is_error : ndarray of bool, shape (n, K)
        Labels that are off the diagonal of the confident joint.
    """

    order: NDArray[np.int64]
    label_scores: Float64
    record_scores: Float64
    is_error: NDArray[np.bool_]


def rank_labels(y: Labels, p: Float64, training_odds: Float64 | None = None) -> LabelRanking:
    """Rank records by the most suspicious of their labels.

    The score of a label is the sum of two numbers in nats. The first one is the log-odds of the opposite of the label:
    out of fold or, with `training_odds`, the mean of out of fold and of the training (area under the margin). The
    second one is the conflict with another label of the record. `bench/bench_label_doctor.py` compares this score with
    others.

    Parameters
    ----------
    y : ndarray of bool, shape (n, K)
        Given labels.
    p : ndarray, shape (n, K)
        Out-of-fold probabilities.
    training_odds : ndarray, shape (n, K), optional
        Mean log-odds of the records while they were trained on. A record with NaN is ranked by `p` alone.
    """
    against = -margins(y, log_odds(p))
    if training_odds is not None:
        of_training = -margins(y, training_odds)
        against = np.where(np.isnan(of_training), against, (against + of_training) / 2)
    label_scores = against + label_conflicts(y)
    record_scores = label_scores.max(axis=1)
    order = np.argsort(-record_scores, kind="stable")
    return LabelRanking(order, label_scores, record_scores, is_confident_error(y, p))
