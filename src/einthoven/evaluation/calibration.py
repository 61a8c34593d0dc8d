"""Calibration methods: they correct probabilities, so that a probability of 0.3 means 30 positive records in 100.

A calibration is fitted on records that are not reported. A method is created as ``method(classes, single_label)`` and
has the functions ``fit(y, p)`` and ``transform(p)``. Fitted values are attributes with a trailing underscore.

The probabilities of single-label tasks come from a softmax. A multi-label method changes the logit of each class. In
single-label tasks, the same method changes the logarithms of the probabilities of all classes, and a softmax
normalises them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray, have_both_labels
from einthoven.evaluation.scores import check_probabilities

# Probabilities are limited to this distance from 0 and 1, because 0 and 1 have no logit.
_TINY = 1e-12


class Calibration(Protocol):
    """The interface of every method."""

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> Calibration:
        """Fit to labels (n, K) and probabilities (n, K) of records that are not reported."""

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Return calibrated probabilities, (n, K)."""


class Uncalibrated:
    """The probabilities of the model, without any change."""

    def __init__(self, classes: Sequence[str], single_label: bool) -> None:
        self.classes = tuple(classes)
        self.single_label = single_label

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> Uncalibrated:
        """Check the labels and probabilities. There is nothing to fit."""
        check_probabilities(y, p)
        return self

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Return the probabilities as they are."""
        return np.asarray(p, dtype=np.float64)


class Temperature:
    """One temperature for all classes. The logits are divided by it. The order of the records does not change.

    If the probabilities separate the labels without any error, the likelihood is largest at a temperature of 0. A prior
    prevents this. The inverse temperature is the slope of the logits. It has a normal prior with mean 1 that weighs as
    much as `prior` records. `Vector` has the same prior for each slope.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017. The prior: Bishop, "Pattern
    recognition and machine learning", 2006, equations 4.140 and 4.142, with m₀ = 1 and S₀ = 1 / prior.
    """

    def __init__(self, classes: Sequence[str], single_label: bool, prior: float = 1.0) -> None:
        self.classes = tuple(classes)
        self.single_label = single_label
        self.prior = _check_prior(prior)

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> Temperature:
        """Find the most probable temperature from .01 to 100. The objective is convex in its inverse."""
        from scipy.optimize import minimize_scalar

        positive, probability = _check(y, p, self.classes)
        z = _logits(probability, self.single_label)
        prior_weight = self.prior / len(z)

        def objective(log_temperature: float) -> float:
            slope = float(np.exp(-log_temperature))
            return _loss(positive, z * slope, self.single_label) + 0.5 * prior_weight * (slope - 1) ** 2

        bounds = (np.log(0.01), np.log(100.0))
        result = minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-8})
        self.temperature_ = float(np.exp(result.x))
        return self

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Return calibrated probabilities, (n, K)."""
        return _probabilities(_logits(p, self.single_label) / self.temperature_, self.single_label)


class Vector:
    """A slope and an offset for the logit of each class.

    In multi-label tasks this is Platt scaling of each class. In single-label tasks it is vector scaling. The logit of a
    class does not change if the fitting records do not have both labels of this class. A prior that weighs as much as
    `prior` records pulls the slopes to 1 and the offsets to 0. So they stay finite if the probabilities separate the
    labels of a class without any error.

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines", 1999. Vector scaling: Guo et al., ICML 2017. The prior
    is normal: Bishop, "Pattern recognition and machine learning", 2006, equations 4.140 and 4.142.
    """

    def __init__(self, classes: Sequence[str], single_label: bool, prior: float = 1.0) -> None:
        self.classes = tuple(classes)
        self.single_label = single_label
        self.prior = _check_prior(prior)

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> Vector:
        """Find the slopes and offsets with the lowest negative log-likelihood, with the exact gradient."""
        from scipy.optimize import minimize

        positive, probability = _check(y, p, self.classes)
        z = _logits(probability, self.single_label)
        n, num_classes = z.shape
        has_both_labels = have_both_labels(positive)
        start = np.concatenate([np.ones(num_classes), np.zeros(num_classes)])

        # The multi-label loss is a mean over the classes, so its gradient and the prior are divided by their number.
        scale = 1.0 if self.single_label else 1 / num_classes
        prior_weight = self.prior / n * scale

        def objective(x: FloatArray) -> tuple[float, FloatArray]:
            slope = np.where(has_both_labels, x[:num_classes], 1.0)
            offset = np.where(has_both_labels, x[num_classes:], 0.0)
            calibrated = z * slope + offset
            error = (_probabilities(calibrated, self.single_label) - positive) * has_both_labels * scale / n
            value = _loss(positive, calibrated, self.single_label)
            value += 0.5 * prior_weight * float(((x - start) ** 2).sum())
            gradient = np.concatenate([(error * z).sum(axis=0), error.sum(axis=0)])
            return value, gradient + prior_weight * (x - start)

        result = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-9})
        self.slope_ = result.x[:num_classes]
        self.offset_ = result.x[num_classes:]
        return self

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Return calibrated probabilities, (n, K)."""
        z = _logits(p, self.single_label)
        return _probabilities(z * self.slope_ + self.offset_, self.single_label)


class Isotonic:
    """A rising curve for each class, without any other restriction. It needs some hundred positive records per class.

    The curve is linear between the fitted points and constant outside of them. Its values never reach 0 or 1. They are
    computed as if each class had half a positive and half a negative record more, because a finite sample excludes
    nothing. Single-label probabilities are normalised afterwards.

    References
    ----------
    Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
    """

    def __init__(self, classes: Sequence[str], single_label: bool) -> None:
        self.classes = tuple(classes)
        self.single_label = single_label

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> Isotonic:
        """Fit the curve of each class by least squares. The algorithm pools adjacent violators."""
        from scipy.optimize import isotonic_regression

        positive, probability = _check(y, p, self.classes)
        n = len(positive)
        self.stated_: list[FloatArray] = []
        self.observed_: list[FloatArray] = []
        for label, column in zip(positive.T, probability.T, strict=True):
            # Records with the same probability are one point of the curve.
            stated, member, count = np.unique(column, return_inverse=True, return_counts=True)
            share = np.bincount(member.reshape(-1), weights=label) / count
            rising = isotonic_regression(share, weights=count).x
            self.stated_.append(stated)
            self.observed_.append((rising * n + 0.5) / (n + 1))
        return self

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Return calibrated probabilities, (n, K)."""
        probability = np.asarray(p, dtype=np.float64)
        columns = []
        for column, stated, observed in zip(probability.T, self.stated_, self.observed_, strict=True):
            columns.append(np.interp(column, stated, observed))
        calibrated: FloatArray = np.stack(columns, axis=1)
        if self.single_label:
            calibrated = calibrated / calibrated.sum(axis=1, keepdims=True)
        return calibrated


class PriorShift:
    """Bayes' rule for another prevalence: the odds of a class change by the same factor as its prior odds.

    Parameters
    ----------
    classes : sequence of str
    single_label : bool
    prevalence : mapping of str to float
        Share of records with each class in the population in which the model is used. Single-label tasks need all
        classes and a sum of 1. In multi-label tasks, a class without an entry keeps the prevalence of the fitting
        records.

    References
    ----------
    Saerens, Latinne, Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities: a simple
    procedure", Neural Computation 2002, equation 2.4.
    """

    def __init__(self, classes: Sequence[str], single_label: bool, prevalence: Mapping[str, float]) -> None:
        unknown = sorted(set(prevalence) - set(classes))
        if unknown:
            raise UserError(
                f"calibration.prevalence.{unknown[0]}: no such class; expected some of {', '.join(classes)}."
            )
        for name, share in prevalence.items():
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
                raise UserError(f"calibration.prevalence.{name}={share}: expected a share between 0 and 1.")
        if not prevalence:
            raise UserError("calibration.prevalence names no class; give it as +calibration.prevalence.CLASS=SHARE.")
        total = sum(prevalence.values())
        if single_label and (len(prevalence) < len(classes) or abs(total - 1) > 1e-6):
            raise UserError(
                f"calibration.prevalence sums to {total:g} over {len(prevalence)} classes; each record has exactly one "
                f"label, so all {len(classes)} classes and a sum of 1 are expected."
            )
        self.classes = tuple(classes)
        self.single_label = single_label
        self.prevalence = dict(prevalence)

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> PriorShift:
        """Measure the prevalence in the fitting records."""
        positive, _ = _check(y, p, self.classes)
        # Half a positive and half a negative record are added. So a class without any record is rare, not impossible.
        self.fitted_ = (positive.sum(axis=0) + 0.5) / (len(positive) + 1)
        stated = []
        for name, fitted in zip(self.classes, self.fitted_, strict=True):
            stated.append(self.prevalence.get(name, fitted))
        self.stated_ = np.array(stated)
        return self

    @property
    def shift(self) -> FloatArray:
        """The constants (K,) that are added to the logits."""
        shift: FloatArray = np.log(self.stated_) - np.log(self.fitted_)
        if not self.single_label:
            shift = shift - np.log1p(-self.stated_) + np.log1p(-self.fitted_)
        return shift

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Return the probabilities at the new prevalence, (n, K)."""
        return _probabilities(_logits(p, self.single_label) + self.shift, self.single_label)


def _check_prior(prior: float) -> float:
    if not 0 <= prior < np.inf:
        raise UserError(f"calibration.prior={prior}: expected a number of records, 0 or more.")
    return prior


def _check(y: npt.ArrayLike, p: npt.ArrayLike, classes: Sequence[str]) -> tuple[BoolArray, FloatArray]:
    """Return labels as booleans and probabilities as float64. Refuse them if they do not fit to the classes."""
    positive, probability = check_probabilities(y, p)
    if positive.shape[1] != len(classes):
        raise UserError(
            f"One class name per column is needed, found {len(classes)} names for {positive.shape[1]} columns."
        )
    return positive, probability


def _logits(p: npt.ArrayLike, single_label: bool) -> FloatArray:
    """Return the inverse of `_probabilities`. For a softmax it is unique up to a constant per record."""
    inside = np.asarray(p, dtype=np.float64).clip(_TINY, 1 - _TINY)
    z: FloatArray = np.log(inside)
    if not single_label:
        z = z - np.log1p(-inside)
    return z


def _probabilities(z: FloatArray, single_label: bool) -> FloatArray:
    from scipy.special import expit, softmax

    return softmax(z, axis=1) if single_label else expit(z)


def _loss(positive: BoolArray, z: FloatArray, single_label: bool) -> float:
    """Return the negative log-likelihood of logits: the mean over records, and in multi-label tasks over classes."""
    from scipy.special import logsumexp

    if single_label:
        return float((logsumexp(z, axis=1) - (z * positive).sum(axis=1)).mean())
    return float(np.logaddexp(0.0, np.where(positive, -z, z)).mean())
