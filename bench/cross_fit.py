"""Cross-fitting: calibration, thresholds and sets that are fitted on some folds and used on the others.

Each record gets the probability, the decisions and the sets of a fit that has not seen its label. Each record also
serves to fit the others. The predictions must be out of fold. The models of the other folds were trained on the record,
so a small, indirect influence of its label remains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.calibration import Calibration
from einthoven.evaluation.conformal import class_thresholds, risk_control_threshold
from einthoven.evaluation.metrics import BoolArray, FloatArray
from einthoven.evaluation.operating_points import Rule, choose_threshold


@dataclass(frozen=True)
class CrossFit:
    """What fits on the other folds say about each record.

    Attributes
    ----------
    p : ndarray of float64, shape (n, K)
        Calibrated probabilities.
    decisions : dict of Rule to ndarray of bool, shape (n, K)
        Whether the probability reaches the threshold that the rule chooses.
    in_set : dict of float to ndarray of bool, shape (n, K)
        alpha -> whether a class is in the conformal set of a record, with one threshold for each group of classes.
    in_own_set : dict of float to ndarray of bool, shape (n, K)
        The same with a threshold for each class.
    """

    p: FloatArray
    decisions: dict[Rule, BoolArray]
    in_set: dict[float, BoolArray]
    in_own_set: dict[float, BoolArray]


def cross_fit(
    make: Callable[[], Calibration],
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    folds: npt.ArrayLike,
    rules: Sequence[Rule] = (),
    alphas: Sequence[float] = (),
    groups: Sequence[slice] = (slice(None),),
) -> CrossFit:
    """Calibrate and decide each fold with what is fitted on the other folds.

    Parameters
    ----------
    make : callable
        Creates a calibration that is not fitted yet.
    y, p : array-like, shape (n, K)
        Labels and probabilities. The probabilities of a record come from a model that has not seen it.
    folds : array-like, shape (n,)
        Fold of each record. A patient must be in one fold only.
    rules : sequence of Rule
        How thresholds are chosen. Each class needs both labels outside of each fold.
    alphas : sequence of float
        Shares of true labels that the sets may miss.
    groups : sequence of slice
        Columns of the classes that share a threshold of the sets. By default all classes share it.

    Raises
    ------
    UserError
        If there is only one fold, or as in `choose_threshold`.
    """
    labels = np.asarray(y)
    probability = np.asarray(p, dtype=np.float64)
    fold_of_record = np.asarray(folds)
    names = np.unique(fold_of_record)
    if len(names) < 2:
        raise UserError(f"{len(names)} fold found; cross-fitting needs two folds or more.")

    calibrated = np.empty_like(probability)
    decisions = {rule: np.zeros(labels.shape, np.bool_) for rule in rules}
    in_set = {alpha: np.zeros(labels.shape, np.bool_) for alpha in alphas}
    in_own_set = {alpha: np.zeros(labels.shape, np.bool_) for alpha in alphas}
    for name in names:
        is_held_out = fold_of_record == name
        calibration = make().fit(labels[~is_held_out], probability[~is_held_out])
        fit_y = labels[~is_held_out]
        fit_p = calibration.transform(probability[~is_held_out])
        held_out = calibration.transform(probability[is_held_out])
        calibrated[is_held_out] = held_out
        for rule, of_rule in decisions.items():
            thresholds = [choose_threshold(fit_y[:, k], fit_p[:, k], rule) for k in range(labels.shape[1])]
            of_rule[is_held_out] = held_out >= np.array(thresholds)
        for alpha in alphas:
            in_set[alpha][is_held_out] = held_out >= group_thresholds(fit_y, fit_p, alpha, groups)
            in_own_set[alpha][is_held_out] = held_out >= class_thresholds(fit_y, fit_p, alpha)
    return CrossFit(calibrated, decisions, in_set, in_own_set)


def group_thresholds(
    y_true: npt.ArrayLike, p: npt.ArrayLike, alpha: float, groups: Sequence[slice] = (slice(None),)
) -> FloatArray:
    """Find a threshold for each group of classes by `risk_control_threshold`, from the classes of the group alone.

    Parameters
    ----------
    y_true, p, alpha
        As in `risk_control_threshold`.
    groups : sequence of slice
        Columns of each group. Together they are all columns.

    Returns
    -------
    array of float64, shape (K,)
        For each class the threshold of its group.

    Raises
    ------
    UserError
        As in `risk_control_threshold`.
    """
    positive, probability = np.asarray(y_true), np.asarray(p)
    thresholds = np.zeros(positive.shape[1])
    for group in groups:
        thresholds[group] = risk_control_threshold(positive[:, group], probability[:, group], alpha)
    return thresholds
