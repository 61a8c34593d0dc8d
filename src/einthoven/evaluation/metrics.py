"""Metrics of multi-label classification: AUROC, average precision, Fmax.

Every function takes labels and scores as arrays with one row per record and one column per class. It computes in
float64 and handles tied scores exactly. All classes are processed together, with one sort per call and without a loop.

A class without a positive record or without a negative record has no AUROC. It is ``nan`` in the results per class, and
the macro averages leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.functional.class_names import parts

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

# A probability of exactly .29 must reach the threshold .29. j / 100 is the float nearest to the decimal number. Some
# results of linspace and arange(0, 1, .01) differ from it in the last bit.
FMAX_THRESHOLDS: FloatArray = np.arange(101) / 100


def have_both_labels(y: npt.NDArray[np.generic]) -> BoolArray:
    """Return which classes (K,) of labels (n, K) have a positive and a negative record."""
    positive = y.astype(bool)
    return np.asarray(positive.any(axis=0) & ~positive.all(axis=0))


def check_labels_scores(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Return labels as booleans and scores as float64. Refuse invalid ones.

    Parameters
    ----------
    y_true : array-like, shape (n, K)
        Labels, each 0 or 1.
    y_score : array-like, shape (n, K)
        Scores, higher for positive: probabilities or logits, without NaN.

    Returns
    -------
    labels : array of bool, shape (n, K)
    scores : array of float64, shape (n, K)

    Raises
    ------
    UserError
        If the shapes differ or are not two-dimensional, a label is neither 0 nor 1, or a score is NaN.
    """
    labels = np.asarray(y_true)
    scores = np.asarray(y_score, dtype=np.float64)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise UserError(
            f"Labels and scores need one shape (records, classes), found {labels.shape} and {scores.shape}."
        )
    positive = labels == 1
    if not np.all(positive | (labels == 0)):
        raise UserError("Labels must be 0 or 1 to be evaluated, found other values (soft labels are for training).")
    num_nan = int(np.count_nonzero(np.isnan(scores)))
    if num_nan:
        raise UserError(f"Scores must be numbers, found {num_nan} NaN among {scores.size}: did training diverge?")
    return positive, scores


def auroc_per_class(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> FloatArray:
    """Compute the area under the ROC curve of each class.

    It is the Mann-Whitney form ``(R - P(P+1)/2) / (P N)``, where R is the sum of the mid-ranks of the P positive scores
    and N is the number of negative scores (Hanley and McNeil, Radiology 1982). Tied pairs count one half.

    Parameters
    ----------
    y_true : array-like, shape (n, K)
        Labels, each 0 or 1.
    y_score : array-like, shape (n, K)
        Scores, higher for positive.

    Returns
    -------
    array of float64, shape (K,)
        ``nan`` if a class lacks positives or negatives.

    Raises
    ------
    UserError
        See `check_labels_scores`.
    """
    positive, scores = check_labels_scores(y_true, y_score)
    rank_sum = np.where(positive, midranks(scores), 0.0).sum(axis=0)
    positives = positive.sum(axis=0).astype(np.float64)
    pairs = positives * (len(scores) - positives)
    wins = rank_sum - positives * (positives + 1) / 2
    return _ratio(wins, pairs, pairs > 0)


def midranks(scores: FloatArray) -> FloatArray:
    """Rank the values of each column from 1, (n, K) -> (n, K). Tied values get the mean of their ranks."""
    order = np.argsort(scores, axis=0)
    first, last = _tie_bounds(np.take_along_axis(scores, order, axis=0))
    ranks = np.empty(scores.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=0)
    return ranks


def macro_auroc(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> float:
    """Return the unweighted mean of the AUROC over the classes that have both labels.

    Parameters
    ----------
    y_true, y_score
        As in `auroc_per_class`.

    Returns
    -------
    float

    Raises
    ------
    UserError
        If no class has both labels; otherwise see `check_labels_scores`.
    """
    return _macro(auroc_per_class(y_true, y_score), "AUROC")


def average_precision_per_class(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> FloatArray:
    """Compute the average precision of each class: the area under the steps of the precision-recall curve.

    It is ``sum over thresholds of (recall_i - recall_{i-1}) precision_i``. The thresholds are the distinct scores.
    There is no interpolation.

    Parameters
    ----------
    y_true, y_score
        As in `auroc_per_class`.

    Returns
    -------
    array of float64, shape (K,)
        ``nan`` if a class lacks positives or negatives. Without negatives, the precision would be 1 for any scores. So
        the macro averages of AUROC and average precision use the same classes.

    Raises
    ------
    UserError
        See `check_labels_scores`.
    """
    positive, scores = check_labels_scores(y_true, y_score)
    order = np.argsort(-scores, axis=0)
    sorted_positive = np.take_along_axis(positive, order, axis=0)
    _, last = _tie_bounds(np.take_along_axis(scores, order, axis=0))
    true_positives = np.take_along_axis(np.cumsum(sorted_positive, axis=0), last, axis=0)

    # Recall grows by 1/P at each positive. All records of a tie have the precision at the end of the tie.
    precision_sum = np.where(sorted_positive, true_positives / (last + 1), 0.0).sum(axis=0)
    positives = positive.sum(axis=0)
    has_both_labels = (positives > 0) & (positives < len(scores))
    return _ratio(precision_sum, positives, has_both_labels)


def macro_auprc(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> float:
    """Return the unweighted mean of the average precision over the classes that have both labels.

    Parameters
    ----------
    y_true, y_score
        As in `auroc_per_class`.

    Returns
    -------
    float

    Raises
    ------
    UserError
        If no class has both labels; otherwise see `check_labels_scores`.
    """
    return _macro(average_precision_per_class(y_true, y_score), "average precision")


def fmax(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> float:
    """Return the largest sample-centric F score over the thresholds 0, .01 ... 1.

    At each threshold t, a class is predicted if ``p >= t``. Precision is averaged over the records with at least one
    prediction. Recall is averaged over the records with at least one label. F is the harmonic mean of the two averages.
    Source: Strodthoff et al., IEEE JBHI 2021. The definition comes from protein function prediction, Radivojac et al.,
    Nature Methods 2013.

    Parameters
    ----------
    y_true : array-like, shape (n, K)
        Labels, each 0 or 1.
    y_score : array-like, shape (n, K)
        Probabilities, in 0 ... 1.

    Returns
    -------
    float

    Raises
    ------
    UserError
        If a score is outside 0 ... 1 or no record has a label; otherwise see `check_labels_scores`.
    """
    positive, probability = check_labels_scores(y_true, y_score)
    # Rounding in a float32 softmax can give a probability slightly above 1.
    if probability.size and not (probability.min() >= -1e-6 and probability.max() <= 1 + 1e-6):
        value_range = f"{probability.min():.4g} ... {probability.max():.4g}"
        raise UserError(f"Fmax needs probabilities in 0 ... 1, found {value_range}: apply the sigmoid first.")
    num_labels = positive.sum(axis=1)
    if not np.any(num_labels):
        raise UserError("Fmax needs at least one record with a label, found none.")

    # Number of predictions and of correct predictions per record, at all thresholds together.
    num_reached = np.searchsorted(FMAX_THRESHOLDS, probability, side="right")
    predicted = _count_reaching(num_reached, np.ones_like(positive))
    correct = _count_reaching(num_reached, positive)

    precision_sum = (correct / np.maximum(predicted, 1)).sum(axis=0)
    num_with_prediction = (predicted > 0).sum(axis=0)
    precision = precision_sum / np.maximum(num_with_prediction, 1)
    has_label = num_labels > 0
    recall = (correct[has_label] / num_labels[has_label, None]).mean(axis=0)

    total = precision + recall
    f_score = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return float(np.max(f_score))


def roc_curve(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Compute the receiver operating characteristic of one class, with one point per distinct score.

    Parameters
    ----------
    y_true : array-like, shape (n,)
        Labels, each 0 or 1. Both must occur.
    y_score : array-like, shape (n,)
        Scores, higher for positive.

    Returns
    -------
    fpr, tpr : arrays of float64, shape (distinct scores + 1,)
        False and true positive rates from (0, 0) to (1, 1). The area under the curve by the trapezoidal rule is the
        AUROC.

    Raises
    ------
    UserError
        If the class lacks positives or negatives; otherwise see `check_labels_scores`.
    """
    positive, scores = check_labels_scores(np.asarray(y_true)[..., None], np.asarray(y_score)[..., None])
    positive = positive[:, 0]
    scores = scores[:, 0]
    positives = int(positive.sum())
    if positives in (0, len(scores)):
        raise UserError(f"A ROC curve needs both labels, found {positives} positive of {len(scores)} records.")
    _, true_positives, false_positives = count_at_scores(positive, scores)
    tpr = np.append(0.0, true_positives / positives)
    fpr = np.append(0.0, false_positives / (len(scores) - positives))
    return fpr, tpr


def count_at_scores(positive: BoolArray, scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the distinct scores (S,) of one class (n,), and the true and false positives at or above each score.

    The scores are sorted in descending order.
    """
    order = np.argsort(-scores)
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true_positives = np.cumsum(positive[order])[last_of_tie].astype(np.float64)
    false_positives = last_of_tie + 1 - true_positives
    return scores[order][last_of_tie], true_positives, false_positives


def summary(y_true: npt.ArrayLike, y_score: npt.ArrayLike, classes: Sequence[str]) -> dict[str, float]:
    """Compute all metrics of one evaluation, under the names with which they are logged.

    Parameters
    ----------
    y_true : array-like, shape (n, K)
        Labels, each 0 or 1.
    y_score : array-like, shape (n, K)
        Probabilities, in 0 ... 1.
    classes : sequence of K str
        Class names, in column order.

    Returns
    -------
    dict of str to float
        ``macro_auroc``, ``macro_auprc``, ``fmax``, and ``auroc/<class>`` for each class that has both labels. The names
        of the classes are encoded by `einthoven.functional.class_names.parts`.

    Raises
    ------
    UserError
        If there are not K class names, or as in `macro_auroc` and `fmax`.
    """
    per_class = auroc_per_class(y_true, y_score)
    if len(classes) != len(per_class):
        raise UserError(
            f"One class name per column is needed, found {len(classes)} names for {len(per_class)} columns."
        )
    result = {
        "macro_auroc": _macro(per_class, "AUROC"),
        "macro_auprc": macro_auprc(y_true, y_score),
        "fmax": fmax(y_true, y_score),
    }
    part_of_name = parts(classes)
    for name, value in zip(classes, per_class.tolist(), strict=True):
        if not np.isnan(value):
            result[f"auroc/{part_of_name[name]}"] = value
    return result


def _tie_bounds(ordered: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the first and the last row of the tie to which each row belongs, for each sorted column (n, K)."""
    n, num_classes = ordered.shape
    row = np.arange(n)[:, None]
    changes = ordered[1:] != ordered[:-1]
    edge = np.ones((min(n, 1), num_classes), dtype=np.bool_)
    is_first = np.concatenate([edge, changes])
    is_last = np.concatenate([changes, edge])

    # Copy the number of the first row of a tie to all later rows of the tie, and that of the last row to all earlier.
    first = np.maximum.accumulate(np.where(is_first, row, 0), axis=0)
    last = np.minimum.accumulate(np.where(is_last, row, n)[::-1], axis=0)[::-1]
    return first, last


def _count_reaching(num_reached: IntArray, selected: BoolArray) -> IntArray:
    """Count the selected classes that reach each threshold, for each record: (n, K), (n, K) -> (n, thresholds).

    `num_reached` is the number of thresholds that a probability reaches.
    """
    # One histogram per record. All histograms are counted together, with the bins of record i after those of i - 1.
    n = len(num_reached)
    bins = len(FMAX_THRESHOLDS) + 1
    flat = (np.arange(n)[:, None] * bins + num_reached)[selected]
    histogram = np.bincount(flat, minlength=n * bins).reshape(n, bins)

    # A probability that reaches j thresholds reaches the first j of them. So sum from the end.
    return np.cumsum(histogram[:, ::-1], axis=1)[:, ::-1][:, 1:]


def _ratio(numerator: FloatArray, denominator: FloatArray | IntArray, is_valid: BoolArray) -> FloatArray:
    """Return the quotient where it is valid, otherwise nan."""
    result = np.full(numerator.shape, np.nan)
    result[is_valid] = numerator[is_valid] / denominator[is_valid]
    return result


def _macro(per_class: FloatArray, name: str) -> float:
    """Return the mean over the classes that are not nan."""
    is_valid = ~np.isnan(per_class)
    if not np.any(is_valid):
        raise UserError(
            f"The macro {name} needs a class with both positive and negative records, "
            f"found none among {len(per_class)} classes."
        )
    return float(per_class[is_valid].mean())
