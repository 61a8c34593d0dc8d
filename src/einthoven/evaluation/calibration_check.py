"""Fit a calibration, and check by cross-validation that it makes the probabilities better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.calibration import Calibration, PriorShift, Uncalibrated
from einthoven.evaluation.metrics import FloatArray

PARTS = 5
"""Number of parts into which the cross-validation divides the patients."""


@dataclass(frozen=True)
class CalibrationCheck:
    """The result of the check: how likely the labels are, on records that the calibration was not fitted on.

    Attributes
    ----------
    before, after : float
        Negative log-likelihood without and with the calibration. NaN if there are too few patients.
    parts : int
        Number of parts that the patients were divided into. Each part was calibrated by a method that was fitted on
        the other parts.
    """

    before: float
    after: float
    parts: int

    @property
    def is_better(self) -> bool:
        """Whether the calibration can be used: the likelihood is not worse with it."""
        return self.after <= self.before


def fit_and_check(
    make: Callable[[], Calibration], y: npt.ArrayLike, p: npt.ArrayLike, patients: npt.ArrayLike, seed: int = 0
) -> tuple[Calibration, CalibrationCheck | None]:
    """Fit a calibration. Replace it by `Uncalibrated` if it makes the likelihood of other records worse.

    This is checked by cross-validation: the records are divided into parts, and each part is calibrated by a method
    that was fitted on the other parts.

    Parameters
    ----------
    make : callable
        Creates a method that is not fitted yet.
    y, p : array-like, shape (n, K)
        Labels and probabilities of records that are not reported.
    patients : array-like, shape (n,)
        Patient of each record. All records of a patient are in the same part.
    seed : int
        Seed of the division into parts.

    Returns
    -------
    calibration : Calibration
        Fitted on all records, or `Uncalibrated`.
    check : CalibrationCheck or None
        None for two methods that are not checked: `PriorShift`, which is meant for another population than these
        records, and `Uncalibrated`, which changes nothing.
    """
    method = make()
    if isinstance(method, Uncalibrated | PriorShift):
        return method.fit(y, p), None
    check = _cross_validate(make, np.asarray(y), np.asarray(p, dtype=np.float64), np.asarray(patients), seed)
    if check.is_better:
        return method.fit(y, p), check
    # A calibration from outside of einthoven may lack these attributes.
    classes = getattr(method, "classes", ())
    single_label = bool(getattr(method, "single_label", False))
    return Uncalibrated(classes, single_label).fit(y, p), check


def _cross_validate(
    make: Callable[[], Calibration],
    y: npt.NDArray[np.generic],
    p: FloatArray,
    patients: npt.NDArray[np.generic],
    seed: int,
) -> CalibrationCheck:
    """Calibrate each part of the patients by a method that was fitted on the other parts."""
    patient_names, patient_number = np.unique(patients, return_inverse=True)
    num_parts = min(PARTS, len(patient_names))
    if num_parts < 2:
        return CalibrationCheck(np.nan, np.nan, num_parts)
    # Every patient gets a part at random. The sizes of the parts differ by at most one patient.
    part_of_patient = np.random.default_rng(seed).permutation(len(patient_names)) % num_parts
    part_of_record = part_of_patient[patient_number.reshape(-1)]

    calibrated = np.empty_like(p)
    for number in range(num_parts):
        is_held_out = part_of_record == number
        method = make().fit(y[~is_held_out], p[~is_held_out])
        calibrated[is_held_out] = method.transform(p[is_held_out])

    single_label = bool(getattr(make(), "single_label", False))
    before = _negative_log_likelihood(y, p, single_label)
    after = _negative_log_likelihood(y, calibrated, single_label)
    return CalibrationCheck(before, after, num_parts)


def _negative_log_likelihood(y: npt.NDArray[np.generic], p: FloatArray, single_label: bool) -> float:
    """Return the negative log-likelihood of labels and probabilities (n, K).

    It is the mean over the records, and in multi-label tasks also over the classes.
    """
    is_positive = y.astype(np.bool_)
    # A probability of 0 would give an infinite result.
    tiny = np.finfo(np.float64).tiny
    if single_label:
        of_label = p[is_positive]
        return float(-np.log(np.maximum(of_label, tiny)).sum() / len(p))
    of_label = np.where(is_positive, p, 1 - p)
    return float(-np.log(np.maximum(of_label, tiny)).mean())


def check_disjoint(fitted: npt.ArrayLike, reported: npt.ArrayLike, kind: str) -> None:
    """Refuse to fit a calibration or a threshold on the data that are reported.

    Parameters
    ----------
    fitted, reported : array-like
        Folds, records or patients of the two sets.
    kind : str
        The name of one entry, such as "fold", for the message.

    Raises
    ------
    UserError
        If the two sets have a common entry.
    """
    shared = np.intersect1d(fitted, reported)
    if len(shared):
        raise UserError(
            f"{kind} {shared[0]} is both fitted on and reported (entries in both sets: {len(shared)}). Fit a "
            "calibration and its thresholds on other records than those that you report."
        )
