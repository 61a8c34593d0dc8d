"""Tests of differences between models: over trainings, and corrected for the number of comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.comparison import Difference
from einthoven.evaluation.metrics import FloatArray

BETTER = "better"
WORSE = "worse"
NOT_ESTABLISHED = "no difference established"


@dataclass(frozen=True)
class TrainingTest:
    """Test of a difference over several trainings.

    Attributes
    ----------
    difference : float
        Mean difference of the trainings.
    low, high : float
        Ends of its interval.
    p : float
        Two-sided p-value of the hypothesis that the expected difference is 0.
    trainings : int
        Number of differences, J.
    """

    difference: float
    low: float
    high: float
    p: float
    trainings: int


def corrected_t_test(differences: npt.ArrayLike, test_to_train: float, *, level: float = 0.95) -> TrainingTest:
    """Test whether the mean difference of two learning algorithms over several trainings is 0.

    The trainings share most of their records, so the differences are not independent, and the variance of their mean
    is larger than ``s² / J``. The corrected variance is ``(1/J + test_to_train) s²``, where ``s²`` is the sample
    variance of the J differences. The statistic has a t distribution with J - 1 degrees of freedom.

    Parameters
    ----------
    differences : array-like, shape (J,)
        Difference of the metric in each training, such as one per fold of a cross-validation.
    test_to_train : float
        Test records of a training divided by its training records; 0 gives the usual paired t-test.
    level : float
        Nominal coverage of the interval.

    Raises
    ------
    UserError
        If there are fewer than two differences, one is not finite, the ratio is negative, or the level is not between
        0 and 1.

    References
    ----------
    Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52 (2003): the corrected resampled
    t-test.
    """
    from scipy.stats import t as student

    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise UserError(f"A test over trainings needs two finite differences or more, found {values.tolist()}.")
    if not (math.isfinite(test_to_train) and test_to_train >= 0):
        raise UserError(f"test_to_train={test_to_train}: expected a ratio of 0 or more.")
    if not 0 < level < 1:
        raise UserError(f"level={level}: expected a number between 0 and 1.")
    trainings = len(values)
    mean = float(values.mean())
    standard_error = math.sqrt((1 / trainings + test_to_train) * float(values.var(ddof=1)))
    if standard_error == 0:
        # All differences are the same number.
        return TrainingTest(mean, mean, mean, 1.0 if mean == 0 else 0.0, trainings)
    half_width = float(student.ppf((1 + level) / 2, trainings - 1)) * standard_error
    p = 2 * float(student.sf(abs(mean) / standard_error, trainings - 1))
    return TrainingTest(mean, mean - half_width, mean + half_width, p, trainings)


def benjamini_hochberg(p: npt.ArrayLike) -> FloatArray:
    """Adjust p-values for the number of tests, so that they control the false discovery rate.

    If all tests with an adjusted p-value of at most q are called differences, the expected share of false ones among
    them is at most q. That is proved for independent tests and for positive regression dependence. Two-sided
    comparisons with one reference are not covered by the proof. In simulations their share is below q, too
    (`tests/evaluation/test_significance.py`).

    Parameters
    ----------
    p : array-like, shape (m,)
        p-values, in any order.

    Returns
    -------
    array of float64, shape (m,)
        ``min over j >= i of (m / j) p_(j)`` for the i-th smallest p-value, at most 1.

    Raises
    ------
    UserError
        If a p-value is not in 0 ... 1.

    References
    ----------
    Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 57 (1995). Dependence: Benjamini and
    Yekutieli, Annals of Statistics 29 (2001), theorem 1.2.
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise UserError(f"p-values in 0 ... 1 are needed, found {values.tolist()}.")
    m = len(values)
    order = np.argsort(values)
    scaled = values[order] * m / np.arange(1, m + 1)
    # The adjusted values must not decrease with p, so each is the smallest of its own and all later ones.
    ascending = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(ascending, 1.0)
    return adjusted


def verdict(difference: float, adjusted_p: float, q: float = 0.05) -> str:
    """Say in words what a difference of a metric, of which more is better, with its adjusted p-value means."""
    if difference == 0 or adjusted_p > q:
        return NOT_ESTABLISHED
    return BETTER if difference > 0 else WORSE


@dataclass(frozen=True)
class Comparison:
    """Comparison of a model with a reference, of one task.

    Attributes
    ----------
    task, model, reference : str
    by_records : Difference
        Mean difference, with the bootstrap interval over the patients or records.
    by_trainings : TrainingTest or None
        The test over the trainings; None if there are fewer than two.
    """

    task: str
    model: str
    reference: str
    by_records: Difference
    by_trainings: TrainingTest | None = None

    @property
    def p(self) -> float:
        """The larger p-value of the two tests: a difference has to hold for other records and for other trainings."""
        if self.by_trainings is None:
            return self.by_records.p
        return max(self.by_records.p, self.by_trainings.p)


@dataclass(frozen=True)
class Judgement:
    """A comparison with its p-value after the correction for all comparisons, and what it means in words."""

    comparison: Comparison
    adjusted_p: float
    verdict: str


def judge(comparisons: Sequence[Comparison], q: float = 0.05) -> list[Judgement]:
    """Correct the p-values of all comparisons together, and say which differences are established.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of all models and all tasks.
    q : float
        Largest adjusted p-value of a difference.
    """
    adjusted = benjamini_hochberg([comparison.p for comparison in comparisons])
    judgements = []
    for comparison, adjusted_p in zip(comparisons, adjusted, strict=True):
        difference = comparison.by_records.difference
        # The two tests can disagree about the sign: the folds weigh the records in another way.
        by_trainings = comparison.by_trainings
        is_contradicted = by_trainings is not None and by_trainings.difference * difference < 0
        words = NOT_ESTABLISHED if is_contradicted else verdict(difference, adjusted_p, q)
        judgements.append(Judgement(comparison, float(adjusted_p), words))
    return judgements


def by_reference(judgements: Sequence[Judgement]) -> dict[tuple[str, str], list[Judgement]]:
    """Group comparisons by their task and their reference, in the given order."""
    groups: dict[tuple[str, str], list[Judgement]] = {}
    for judgement in judgements:
        comparison = judgement.comparison
        groups.setdefault((comparison.task, comparison.reference), []).append(judgement)
    return groups
