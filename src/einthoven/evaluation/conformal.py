"""Sets of statements that miss few of those that are true: conformal risk control.

The set of a record holds the classes whose probability reaches a threshold. The threshold is chosen on records that
the model was not trained on, so that on further records of the same kind the expected share of true statements that
are missed is at most alpha, whatever the model and however good its probabilities are. What is controlled is a mean
over records, calibration and new ones alike; it says nothing of one class, nor of one kind of patient.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import FloatArray
from einthoven.evaluation.scores import check_probabilities


def missed_share(y_true: npt.ArrayLike, p: npt.ArrayLike, threshold: float) -> FloatArray:
    """Share of each record's true statements below the threshold, of the records that have one.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels, and probabilities in 0 ... 1.
    threshold : float
        A statement is in the set where ``p >= threshold``.

    Returns
    -------
    array of float64, shape (number of records with a true statement,)

    Raises
    ------
    UserError
        See `einthoven.evaluation.scores.check_probabilities`.
    """
    positive, probability = check_probabilities(y_true, p)
    labelled = positive.any(axis=1)
    missed = positive & (probability < threshold)
    share: FloatArray = missed[labelled].sum(axis=1) / positive[labelled].sum(axis=1)
    return share


def risk_control_threshold(y_true: npt.ArrayLike, p: npt.ArrayLike, alpha: float) -> float:
    """The largest threshold that keeps the expected share of missed true statements at `alpha`.

    ``sup {t : n/(n+1) R(t) + 1/(n+1) <= alpha}``, where R is the mean of `missed_share` over the n calibration records
    that have a true statement. Those without one cannot miss any, and would only make the promise cheaper.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels and probabilities of records that were not trained on.
    alpha : float
        Between 0 and 1.

    Returns
    -------
    float
        0, which puts every class into every set, where there are too few records for a promise.

    Raises
    ------
    UserError
        If alpha is out of range; otherwise see `einthoven.evaluation.scores.check_probabilities`.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal risk control", ICLR 2024, equation 4 and theorem 1.
    """
    if not 0 < alpha < 1:
        raise UserError(f"alpha={alpha}: expected a share between 0 and 1.")
    positive, probability = check_probabilities(y_true, p)
    count = positive.sum(axis=1)
    labelled = count > 0
    n = int(labelled.sum())
    if 1 / (n + 1) > alpha:
        return 0.0
    record, column = np.nonzero(positive)
    value, weight = probability[record, column], 1 / (n * count[record])
    order = np.argsort(value)
    value, weight = value[order], weight[order]
    below = np.concatenate([[0.0], np.cumsum(weight)])[np.searchsorted(value, value)]  # R at each of the values
    kept = n / (n + 1) * below + 1 / (n + 1) <= alpha + 1e-12
    return float(value[kept].max())  # the smallest is always kept


def statement_sets(p: npt.ArrayLike, threshold: float, classes: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Names of the classes whose probability reaches the threshold, of each record of ``p`` (n, K)."""
    return [
        tuple(name for name, chosen in zip(classes, row, strict=True) if chosen) for row in np.asarray(p) >= threshold
    ]
