"""Conformal risk control: sets of statements that miss at most a given share of the true statements.

The set of a record contains the classes whose probability reaches a threshold. The threshold is chosen on records that
were not used in training. It guarantees that the expected share of missed statements is at most alpha on new records of
the same kind. The guarantee holds for any model and any quality of its probabilities. It is a mean over the records of
the calibration and the new records. It does not hold for a single class or for a single group of patients. With one
threshold for each class, it holds for the positive records of each class, and the sets are larger.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray
from einthoven.evaluation.scores import check_probabilities


def missed_share(y_true: npt.ArrayLike, p: npt.ArrayLike, threshold: float) -> FloatArray:
    """Compute the share of the true statements that are below the threshold, for each record with a true statement.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels, and probabilities in 0 ... 1.
    threshold : float
        A statement is in the set if ``p >= threshold``.

    Returns
    -------
    array of float64, shape (number of records with a true statement,)

    Raises
    ------
    UserError
        See `einthoven.evaluation.scores.check_probabilities`.
    """
    positive, probability = check_probabilities(y_true, p)
    has_statement = positive.any(axis=1)
    is_missed = positive & (probability < threshold)
    return is_missed[has_statement].sum(axis=1) / positive[has_statement].sum(axis=1)


def risk_control_threshold(y_true: npt.ArrayLike, p: npt.ArrayLike, alpha: float) -> float:
    """Find the largest threshold with an expected share of missed statements of at most `alpha`.

    It is ``sup {t : n/(n+1) R(t) + 1/(n+1) <= alpha}``, where R is the mean of `missed_share` over the n calibration
    records that have a true statement. Records without a true statement cannot miss any. With them, the guarantee would
    be weaker.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels and probabilities of records that were not used in training.
    alpha : float
        Between 0 and 1.

    Returns
    -------
    float
        The threshold. It is 0 if there are too few records for a guarantee. Then every set contains every class.

    Raises
    ------
    UserError
        If alpha is out of range; otherwise see `einthoven.evaluation.scores.check_probabilities`.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal risk control", ICLR 2024, equation 4 and theorem 1.
    """
    positive, probability = _check(y_true, p, alpha)
    num_statements = positive.sum(axis=1)
    n = int((num_statements > 0).sum())
    if 1 / (n + 1) > alpha:
        return 0.0

    # R(t) is the sum of the weights of the true statements with a probability below t.
    record, column = np.nonzero(positive)
    value = probability[record, column]
    weight = 1 / (n * num_statements[record])
    order = np.argsort(value)
    value = value[order]
    weight = weight[order]
    risk = np.concatenate([[0.0], np.cumsum(weight)])[np.searchsorted(value, value)]

    # The smallest value is always controlled, because its risk is 0.
    is_controlled = n / (n + 1) * risk + 1 / (n + 1) <= alpha + 1e-12
    return float(value[is_controlled].max())


def class_thresholds(y_true: npt.ArrayLike, p: npt.ArrayLike, alpha: float) -> FloatArray:
    """Find a threshold for each class, so that its new positive records reach it with a probability of 1 - alpha.

    It is the k-th smallest probability of the n positive records of the class, ``k = floor(alpha (n + 1))``.

    Parameters
    ----------
    y_true, p, alpha
        As in `risk_control_threshold`.

    Returns
    -------
    array of float64, shape (K,)
        0 for a class with fewer than ``1/alpha - 1`` positive records. Then every set contains the class.

    Raises
    ------
    UserError
        As in `risk_control_threshold`.

    References
    ----------
    Vovk, "Conditional validity of inductive conformal predictors", ACML 2012, section 5: one calibration for each
    class. Sadinle, Lei, Wasserman, "Least ambiguous set-valued classifiers", JASA 2019, section 2.
    """
    positive, probability = _check(y_true, p, alpha)
    thresholds = np.zeros(positive.shape[1])
    for k in range(len(thresholds)):
        ascending = np.sort(probability[positive[:, k], k])
        # 0.29 * 100 is 28.999999999999996 in floating point.
        missed = int(np.floor(alpha * (len(ascending) + 1) + 1e-9))
        if missed:
            thresholds[k] = ascending[missed - 1]
    return thresholds


def coverage_per_class(y_true: npt.ArrayLike, p: npt.ArrayLike, thresholds: npt.ArrayLike) -> FloatArray:
    """Compute the share of the positive records of each class whose probability reaches the threshold of the class.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels, and probabilities in 0 ... 1.
    thresholds : array-like, shape (K,)

    Returns
    -------
    array of float64, shape (K,)
        nan for a class without a positive record.

    Raises
    ------
    UserError
        See `einthoven.evaluation.scores.check_probabilities`.
    """
    positive, probability = check_probabilities(y_true, p)
    is_covered = positive & (probability >= np.asarray(thresholds, dtype=np.float64))
    positives = positive.sum(axis=0)
    coverage = np.full(len(positives), np.nan)
    np.divide(is_covered.sum(axis=0), positives, out=coverage, where=positives > 0)
    return coverage


def statement_sets(p: npt.ArrayLike, threshold: npt.ArrayLike, classes: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the names of the classes whose probability reaches the threshold, for each record of ``p`` (n, K).

    There is one threshold for all classes, or one for each class (K,).
    """
    names = np.array(classes, dtype=object)
    return [tuple(names[reaches_threshold]) for reaches_threshold in np.asarray(p) >= np.asarray(threshold)]


def _check(y_true: npt.ArrayLike, p: npt.ArrayLike, alpha: float) -> tuple[BoolArray, FloatArray]:
    """Return labels and probabilities as arrays. Refuse them as `check_probabilities` does, and a wrong alpha."""
    if not 0 < alpha < 1:
        raise UserError(f"alpha={alpha}: expected a share between 0 and 1.")
    return check_probabilities(y_true, p)
