"""Metrics of multi-label classification: AUROC, average precision, Fmax.

Every function takes labels and scores as plain arrays, records in rows and classes in columns, works in
float64 and treats exact ties exactly. All classes are handled at once: one sort per call, no loop.

A class without both labels (no positive record, or no negative one) has no AUROC. It is ``nan`` in the
per-class results and left out of the macro averages.
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

# j / 100 is the float nearest to the decimal as written; linspace and arange(0, 1, .01) miss some by one ulp,
# and a probability of exactly .29 must count as reaching .29.
FMAX_THRESHOLDS: FloatArray = np.arange(101) / 100


def check_labels_scores(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    """Labels as booleans and scores as float64, refused where they make no sense.

    Parameters
    ----------
    y_true : array-like, shape (n, K)
        Labels, each 0 or 1.
    y_score : array-like, shape (n, K)
        Scores, higher for positive: probabilities or logits, no NaN.

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
    missing = int(np.count_nonzero(np.isnan(scores)))
    if missing:
        raise UserError(f"Scores must be numbers, found {missing} NaN among {scores.size}: did training diverge?")
    return positive, scores


def auroc_per_class(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> FloatArray:
    """Area under the ROC curve of each class.

    The Mann-Whitney form, ``(R - P(P+1)/2) / (P N)``, with R the sum of the mid-ranks of the P positive
    scores (Hanley and McNeil, Radiology 1982). Tied pairs count one half.

    Parameters
    ----------
    y_true : array-like, shape (n, K)
        Labels, each 0 or 1.
    y_score : array-like, shape (n, K)
        Scores, higher for positive.

    Returns
    -------
    array of float64, shape (K,)
        ``nan`` where a class lacks positives or negatives.

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
    """Ranks from 1 within each column, (n, K) -> (n, K); tied values share the mean of their ranks."""
    order = np.argsort(scores, axis=0)
    first, last = _tie_bounds(np.take_along_axis(scores, order, axis=0))
    ranks = np.empty(scores.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=0)
    return ranks


def macro_auroc(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> float:
    """Unweighted mean of the AUROC over the classes that have both labels.

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


def micro_auroc(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> float:
    """AUROC of all (record, class) pairs taken together: it also asks that classes are on one scale.

    Parameters
    ----------
    y_true, y_score
        As in `auroc_per_class`.

    Raises
    ------
    UserError
        If there are not both labels; otherwise see `check_labels_scores`.
    """
    positive, scores = check_labels_scores(y_true, y_score)
    return macro_auroc(positive.reshape(-1, 1), scores.reshape(-1, 1))


def average_precision_per_class(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> FloatArray:
    """Average precision of each class: the area under the precision-recall steps.

    ``sum over thresholds of (recall_i - recall_{i-1}) precision_i``, thresholds at the distinct scores,
    without interpolation.

    Parameters
    ----------
    y_true, y_score
        As in `auroc_per_class`.

    Returns
    -------
    array of float64, shape (K,)
        ``nan`` where a class lacks positives or negatives. Without negatives the precision is 1 whatever the
        scores, which says nothing about them; and so both macro averages are over the same classes.

    Raises
    ------
    UserError
        See `check_labels_scores`.
    """
    positive, scores = check_labels_scores(y_true, y_score)
    order = np.argsort(-scores, axis=0)
    hit = np.take_along_axis(positive, order, axis=0)
    _, last = _tie_bounds(np.take_along_axis(scores, order, axis=0))
    true_positives = np.take_along_axis(np.cumsum(hit, axis=0), last, axis=0)
    # Recall grows by 1/P at each positive; all records of a tie share the precision at the end of their tie.
    total = np.where(hit, true_positives / (last + 1), 0.0).sum(axis=0)
    positives = positive.sum(axis=0)
    valid = (positives > 0) & (positives < len(scores))
    return _ratio(total, positives, valid)


def macro_auprc(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> float:
    """Unweighted mean of the average precision over the classes that have both labels.

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


def micro_auprc(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> float:
    """Average precision of all (record, class) pairs taken together.

    Parameters
    ----------
    y_true, y_score
        As in `auroc_per_class`.

    Raises
    ------
    UserError
        If there are not both labels; otherwise see `check_labels_scores`.
    """
    positive, scores = check_labels_scores(y_true, y_score)
    return macro_auprc(positive.reshape(-1, 1), scores.reshape(-1, 1))


def fmax(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> float:
    """Largest sample-centric F score over the thresholds 0, .01 ... 1.

    At each threshold t a class is predicted where ``p >= t``. Precision is averaged over the records with at
    least one prediction, recall over all records; F is the harmonic mean of the two averages. (Strodthoff et
    al., IEEE JBHI 2021; the definition is that of protein function prediction, Radivojac et al., Nature
    Methods 2013.) A record without any label has no recall and is left out of that average.

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
    # A float32 softmax may exceed 1 by a rounding.
    if probability.size and not (probability.min() >= -1e-6 and probability.max() <= 1 + 1e-6):
        found = f"{probability.min():.4g} ... {probability.max():.4g}"
        raise UserError(f"Fmax needs probabilities in 0 ... 1, found {found}: apply the sigmoid first.")
    labels = positive.sum(axis=1)
    if not np.any(labels):
        raise UserError("Fmax needs at least one record with a label, found none.")
    reached = np.searchsorted(FMAX_THRESHOLDS, probability, side="right")  # how many thresholds p reaches
    predicted = _count_reaching(reached, np.ones_like(positive))
    hits = _count_reaching(reached, positive)
    any_predicted = predicted > 0
    precision_sum = (hits / np.maximum(predicted, 1)).sum(axis=0)
    precision = precision_sum / np.maximum(any_predicted.sum(axis=0), 1)
    labelled = labels > 0
    recall = (hits[labelled] / labels[labelled, None]).mean(axis=0)
    total = precision + recall
    return float(np.max(np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)))


def roc_curve(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Receiver operating characteristic of one class, one point per distinct score.

    Parameters
    ----------
    y_true : array-like, shape (n,)
        Labels, each 0 or 1, both present.
    y_score : array-like, shape (n,)
        Scores, higher for positive.

    Returns
    -------
    fpr, tpr : arrays of float64, shape (distinct scores + 1,)
        False and true positive rates from (0, 0) to (1, 1); the trapezoidal area below is the AUROC.

    Raises
    ------
    UserError
        If the class lacks positives or negatives; otherwise see `check_labels_scores`.
    """
    positive, scores = check_labels_scores(np.asarray(y_true)[..., None], np.asarray(y_score)[..., None])
    positive, scores = positive[:, 0], scores[:, 0]
    positives = int(positive.sum())
    if positives in (0, len(scores)):
        raise UserError(f"A ROC curve needs both labels, found {positives} positive of {len(scores)} records.")
    _, true_positives, false_positives = at_each_score(positive, scores)
    tpr = np.append(0.0, true_positives / positives)
    fpr = np.append(0.0, false_positives / (len(scores) - positives))
    return fpr, tpr


def at_each_score(positive: BoolArray, scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distinct scores (S,) of one class (n,), falling, and the true and false positives at or above each."""
    order = np.argsort(-scores)
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true_positives = np.cumsum(positive[order])[ends].astype(np.float64)
    return scores[order][ends], true_positives, ends + 1 - true_positives


def summary(y_true: npt.ArrayLike, y_score: npt.ArrayLike, classes: Sequence[str]) -> dict[str, float]:
    """All metrics of one evaluation under their tracked names.

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
        ``macro_auroc``, ``macro_auprc``, ``fmax`` and ``auroc/<class>`` for each class that has both labels, its name
        as `einthoven.functional.class_names.parts` writes it.

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
    written = parts(classes)
    for name, value in zip(classes, per_class.tolist(), strict=True):
        if not np.isnan(value):
            result[f"auroc/{written[name]}"] = value
    return result


def _tie_bounds(ordered: FloatArray) -> tuple[IntArray, IntArray]:
    """First and last row of the tie that each row belongs to, per sorted column of ``ordered`` (n, K)."""
    n, num_classes = ordered.shape
    row = np.arange(n)[:, None]
    changes = ordered[1:] != ordered[:-1]
    edge = np.ones((min(n, 1), num_classes), dtype=np.bool_)
    starts = np.concatenate([edge, changes])
    ends = np.concatenate([changes, edge])
    first = np.maximum.accumulate(np.where(starts, row, 0), axis=0)
    last = np.minimum.accumulate(np.where(ends, row, n)[::-1], axis=0)[::-1]
    return first, last


def _count_reaching(reached: IntArray, selected: BoolArray) -> IntArray:
    """Per record and threshold, how many selected classes reach it: (n, K), (n, K) -> (n, thresholds)."""
    n = len(reached)
    bins = len(FMAX_THRESHOLDS) + 1
    flat = (np.arange(n)[:, None] * bins + reached)[selected]
    histogram = np.bincount(flat, minlength=n * bins).reshape(n, bins)
    # A probability that reaches j thresholds reaches the first j of them.
    return np.cumsum(histogram[:, ::-1], axis=1)[:, ::-1][:, 1:]


def _ratio(numerator: FloatArray, denominator: FloatArray | IntArray, valid: BoolArray) -> FloatArray:
    """Quotient where valid, else nan."""
    result = np.full(numerator.shape, np.nan)
    result[valid] = numerator[valid] / denominator[valid]
    return result


def _macro(per_class: FloatArray, name: str) -> float:
    valid = ~np.isnan(per_class)
    if not np.any(valid):
        raise UserError(
            f"The macro {name} needs a class with both positive and negative records, "
            f"found none among {len(per_class)} classes."
        )
    return float(per_class[valid].mean())
