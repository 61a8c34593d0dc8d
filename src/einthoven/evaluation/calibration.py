"""Calibration: probabilities that mean what they say, fitted on records that are reported nowhere.

Each method is built as ``method(classes, single_label)``, has ``fit(y, p)`` and ``transform(p)``, and keeps what it has
learned in attributes with a trailing underscore. Single-label probabilities are a softmax and stay one: what a
multi-label method does to the logit of a class, it does there to the logarithms of all classes, which are then
normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.metrics import BoolArray, FloatArray
from einthoven.evaluation.scores import check_probabilities

PARTS = 5  # of the patients, by which a calibration is judged

_TINY = 1e-12  # a probability of exactly 0 or 1 has no logit


class Calibration(Protocol):
    """What every method offers."""

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> Calibration:
        """Learn from labels (n, K) and probabilities (n, K) of records that are not reported."""

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Calibrated probabilities, (n, K)."""


class Uncalibrated:
    """Probabilities as the model gives them."""

    def __init__(self, classes: Sequence[str], single_label: bool) -> None:
        self.classes, self.single_label = tuple(classes), single_label

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> Uncalibrated:
        """Learn nothing."""
        check_probabilities(y, p)
        return self

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Probabilities as they are."""
        return np.asarray(p, dtype=np.float64)


class Temperature:
    """One number for all classes: logits are divided by it. The order of records in a class stays as it is.

    Of records that are told apart without an error, the likelihood alone would ask for a temperature of 0. The inverse
    temperature, the slope of the logits, has a normal prior of mean 1 that is worth `prior` records, as each slope of
    `Vector` has.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017. The prior: Bishop, "Pattern
    recognition and machine learning", 2006, equations 4.140 and 4.142, with m₀ = 1 and S₀ = 1 / prior.
    """

    def __init__(self, classes: Sequence[str], single_label: bool, prior: float = 1.0) -> None:
        self.classes, self.single_label, self.prior = tuple(classes), single_label, _checked_prior(prior)

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> Temperature:
        """Choose the most probable temperature, .01 ... 100 (the objective is convex in its inverse)."""
        from scipy.optimize import minimize_scalar

        positive, probability = _checked(y, p, self.classes)
        z = _logits(probability, self.single_label)
        pull = self.prior / len(z)

        def objective(log_temperature: float) -> float:
            slope = float(np.exp(-log_temperature))
            return _loss(positive, z * slope, self.single_label) + 0.5 * pull * (slope - 1) ** 2

        found = minimize_scalar(
            objective, bounds=(np.log(0.01), np.log(100.0)), method="bounded", options={"xatol": 1e-8}
        )
        self.temperature_ = float(np.exp(found.x))
        return self

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Calibrated probabilities, (n, K)."""
        return _probabilities(_logits(p, self.single_label) / self.temperature_, self.single_label)


class Vector:
    """A slope and an offset for the logit of each class: Platt scaling class by class; single-label, vector scaling.

    A class without both labels in the fitting records keeps its logit. A small pull of the slopes to 1 and of the
    offsets to 0, worth `prior` records, keeps a class finite that is told apart without an error.

    References
    ----------
    Platt, "Probabilistic outputs for support vector machines", 1999; vector scaling: Guo et al., ICML 2017. The pull
    is that of a normal prior: Bishop, "Pattern recognition and machine learning", 2006, equations 4.140 and 4.142.
    """

    def __init__(self, classes: Sequence[str], single_label: bool, prior: float = 1.0) -> None:
        self.classes, self.single_label, self.prior = tuple(classes), single_label, _checked_prior(prior)

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> Vector:
        """Choose slopes and offsets of the lowest negative log-likelihood, with its exact gradient."""
        from scipy.optimize import minimize

        positive, probability = _checked(y, p, self.classes)
        z = _logits(probability, self.single_label)
        n, num_classes = z.shape
        fitted = positive.any(axis=0) & ~positive.all(axis=0)
        start = np.concatenate([np.ones(num_classes), np.zeros(num_classes)])
        scale = 1.0 if self.single_label else 1 / num_classes

        def loss(x: FloatArray) -> tuple[float, FloatArray]:
            slope, offset = np.where(fitted, x[:num_classes], 1.0), np.where(fitted, x[num_classes:], 0.0)
            moved = z * slope + offset
            error = (_probabilities(moved, self.single_label) - positive) * fitted * scale / n
            pull = self.prior / n * scale
            value = _loss(positive, moved, self.single_label)
            value += 0.5 * pull * float(((x - start) ** 2).sum())
            gradient = np.concatenate([(error * z).sum(axis=0), error.sum(axis=0)])
            return value, gradient + pull * (x - start)

        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-9})
        self.slope_, self.offset_ = found.x[:num_classes], found.x[num_classes:]
        return self

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Calibrated probabilities, (n, K)."""
        z = _logits(p, self.single_label)
        return _probabilities(z * self.slope_ + self.offset_, self.single_label)


class Isotonic:
    """Any rising curve, class by class; it needs some hundred positives of a class to be worth its freedom.

    The curve rises linearly between the fitted records and is flat beyond them. Its values stay a little off 0 and 1,
    as if half a positive and half a negative record had been seen in each fitted set, for a finite sample cannot
    exclude anything. Single-label probabilities are normalised afterwards.

    References
    ----------
    Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
    """

    def __init__(self, classes: Sequence[str], single_label: bool) -> None:
        self.classes, self.single_label = tuple(classes), single_label

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> Isotonic:
        """Least squares under a rising order, by pooling adjacent violators."""
        from scipy.optimize import isotonic_regression

        positive, probability = _checked(y, p, self.classes)
        n = len(positive)
        self.stated_: list[FloatArray] = []
        self.observed_: list[FloatArray] = []
        for label, column in zip(positive.T, probability.T, strict=True):
            stated, member, count = np.unique(column, return_inverse=True, return_counts=True)
            share = np.bincount(member.reshape(-1), weights=label) / count  # ties have one value
            rising = isotonic_regression(share, weights=count).x
            self.stated_.append(stated)
            self.observed_.append((rising * n + 0.5) / (n + 1))
        return self

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Calibrated probabilities, (n, K)."""
        columns = np.asarray(p, dtype=np.float64).T
        risen = np.stack([np.interp(*part) for part in zip(columns, self.stated_, self.observed_, strict=True)], axis=1)
        return risen / risen.sum(axis=1, keepdims=True) if self.single_label else risen


class PriorShift:
    """Bayes' rule for another prevalence: the odds of a class change as its prior odds do.

    Parameters
    ----------
    classes : sequence of str
    single_label : bool
    prevalence : mapping of str to float
        Share of records with each class where the model is to be used. Single-label: of every class, summing to 1;
        multi-label: classes that are not named keep the prevalence of the fitting records.

    References
    ----------
    Saerens, Latinne, Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities: a simple
    procedure", Neural Computation 2002, equation 2.4.
    """

    def __init__(self, classes: Sequence[str], single_label: bool, prevalence: Mapping[str, float]) -> None:
        if unknown := sorted(set(prevalence) - set(classes)):
            raise UserError(
                f"calibration.prevalence.{unknown[0]}: no such class; expected some of {', '.join(classes)}."
            )
        for name, share in prevalence.items():
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
                raise UserError(f"calibration.prevalence.{name}={share}: expected a share between 0 and 1.")
        if not prevalence:
            raise UserError("calibration.prevalence names no class; give it as +calibration.prevalence.CLASS=SHARE.")
        if single_label and (len(prevalence) < len(classes) or abs(sum(prevalence.values()) - 1) > 1e-6):
            raise UserError(
                f"calibration.prevalence sums to {sum(prevalence.values()):g} over {len(prevalence)} classes; with one "
                f"label a record, expected all {len(classes)} classes and a sum of 1."
            )
        self.classes, self.single_label, self.prevalence = tuple(classes), single_label, dict(prevalence)

    def fit(self, y: npt.ArrayLike, p: npt.ArrayLike) -> PriorShift:
        """Take the present prevalence from the fitting records."""
        positive, _ = _checked(y, p, self.classes)
        # Half a record more of either kind: a class that none of them has is rare, not impossible.
        self.fitted_ = (positive.sum(axis=0) + 0.5) / (len(positive) + 1)
        self.stated_ = np.array([self.prevalence.get(k, f) for k, f in zip(self.classes, self.fitted_, strict=True)])
        return self

    @property
    def shift(self) -> FloatArray:
        """What is added to the logits (K,)."""
        found: FloatArray = np.log(self.stated_) - np.log(self.fitted_)
        return found if self.single_label else found - np.log1p(-self.stated_) + np.log1p(-self.fitted_)

    def transform(self, p: npt.ArrayLike) -> FloatArray:
        """Probabilities at the stated prevalence, (n, K)."""
        return _probabilities(_logits(p, self.single_label) + self.shift, self.single_label)


@dataclass(frozen=True)
class Judgement:
    """What a calibration makes of records that it was not fitted on.

    Attributes
    ----------
    before, after : float
        Negative log-likelihood of the records as the model answers, and calibrated. NaN where there are too few
        patients to tell.
    parts : int
        Parts of the patients, each calibrated by what was fitted on the others.
    """

    before: float
    after: float
    parts: int

    @property
    def is_better(self) -> bool:
        """Whether the calibration is worth using: it makes nothing worse."""
        return self.after <= self.before


def fit_judged(
    make: Callable[[], Calibration], y: npt.ArrayLike, p: npt.ArrayLike, patients: npt.ArrayLike, seed: int = 0
) -> tuple[Calibration, Judgement | None]:
    """Fit a calibration, and judge by cross-validation within the same records whether it helps others.

    A calibration that makes the likelihood worse is replaced by `Uncalibrated`.

    Parameters
    ----------
    make : callable
        Makes the method, not fitted.
    y, p : array-like, shape (n, K)
        Labels and probabilities of records that are not reported.
    patients : array-like, shape (n,)
        Records of a patient are in one part.
    seed : int
        Of the parts.

    Returns
    -------
    calibration : Calibration
        Fitted on all records, or `Uncalibrated`.
    judgement : Judgement or None
        None for a method that is not to be judged by these records: `PriorShift` is for others, `Uncalibrated` changes
        nothing.
    """
    method = make()
    if isinstance(method, Uncalibrated | PriorShift):
        return method.fit(y, p), None
    judgement = _judge(make, np.asarray(y), np.asarray(p, dtype=np.float64), np.asarray(patients), seed)
    if judgement.is_better:
        return method.fit(y, p), judgement
    classes, single_label = (getattr(method, name) for name in ("classes", "single_label"))
    return Uncalibrated(classes, single_label).fit(y, p), judgement


def _judge(
    make: Callable[[], Calibration],
    y: npt.NDArray[np.generic],
    p: FloatArray,
    patients: npt.NDArray[np.generic],
    seed: int,
) -> Judgement:
    names, patient = np.unique(patients, return_inverse=True)
    parts = min(PARTS, len(names))
    if parts < 2:
        return Judgement(np.nan, np.nan, parts)
    part_of_patient = np.random.default_rng(seed).permutation(len(names)) % parts
    part = part_of_patient[patient.reshape(-1)]
    calibrated = np.empty_like(p)
    for number in range(parts):
        held_out = part == number
        calibrated[held_out] = make().fit(y[~held_out], p[~held_out]).transform(p[held_out])
    single_label = bool(getattr(make(), "single_label", False))
    before, after = (_negative_log_likelihood(y, values, single_label) for values in (p, calibrated))
    return Judgement(before, after, parts)


def _negative_log_likelihood(y: npt.NDArray[np.generic], p: FloatArray, single_label: bool) -> float:
    """Of probabilities (n, K): a mean over records, multi-label over classes too."""
    positive = y.astype(np.bool_)
    tiny = np.finfo(np.float64).tiny
    if single_label:
        return float(-np.log(np.maximum(p[positive], tiny)).sum() / len(p))
    return float(-np.log(np.maximum(np.where(positive, p, 1 - p), tiny)).mean())


def check_apart(fitted: npt.ArrayLike, reported: npt.ArrayLike, what: str) -> None:
    """Refuse to fit a calibration or a threshold on what is reported.

    Parameters
    ----------
    fitted, reported : array-like
        Folds, records or patients of the two sets.
    what : str
        What they are, for the sentence.

    Raises
    ------
    UserError
        If they share any.
    """
    if len(shared := np.intersect1d(fitted, reported)):
        raise UserError(
            f"{what} {shared[0]} is both fitted on and reported ({len(shared)} such); a calibration and its thresholds "
            "are fitted on other records than the figures that they are judged by."
        )


def learned(calibration: Calibration) -> dict[str, object]:
    """What a method has learned, fit for JSON: its attributes with a trailing underscore."""

    def plain(value: object) -> object:
        if isinstance(value, np.ndarray):
            return value.tolist()
        return [plain(item) for item in value] if isinstance(value, list) else value

    return {name.rstrip("_"): plain(value) for name, value in vars(calibration).items() if name.endswith("_")}


METHODS: dict[str, tuple[type, frozenset[str]]] = {
    "none": (Uncalibrated, frozenset()),
    "temperature": (Temperature, frozenset({"temperature"})),
    "vector": (Vector, frozenset({"slope", "offset"})),
    "isotonic": (Isotonic, frozenset({"stated", "observed"})),
    "prior_shift": (PriorShift, frozenset({"stated", "fitted"})),
}
"""Methods by the name of their option in ``conf/calibration``, and what each learns."""


def restored(method: str, classes: Sequence[str], single_label: bool, state: Mapping[str, object]) -> Calibration:
    """A fitted method from its name and what `learned` gave.

    Raises
    ------
    UserError
        If there is no such method, or `state` is not what it learns.
    """
    if method not in METHODS:
        raise UserError(f"calibration {method}: expected one of {', '.join(METHODS)}.")
    kind, names = METHODS[method]
    if set(state) != names:
        raise UserError(f"calibration {method}: learns {sorted(names)}, found {sorted(state)}.")
    found: Calibration = object.__new__(kind)  # what was fitted, without the options that it was fitted with
    vars(found).update(classes=tuple(classes), single_label=single_label)
    for name, value in state.items():
        curves = isinstance(value, list) and method == "isotonic"  # one for each class, of different lengths
        arrays = [np.asarray(curve, dtype=np.float64) for curve in value] if curves else np.asarray(value, np.float64)  # type: ignore[attr-defined]
        setattr(found, f"{name}_", arrays)
        for curve in arrays if isinstance(arrays, list) else [arrays]:
            _check_learned(method, name, curve, len(classes))
    if isinstance(found, Isotonic):
        lengths = [[len(curve) for curve in curves] for curves in (found.stated_, found.observed_)]
        if len(lengths[0]) != len(classes) or lengths[0] != lengths[1] or min(lengths[0]) < 1:
            raise UserError(f"calibration isotonic: expected a curve with points for each of {len(classes)} classes.")
    return found


def _check_learned(method: str, name: str, values: FloatArray, classes: int) -> None:
    """Refuse numbers that a method cannot have learned.

    Raises
    ------
    UserError
        If they have another shape, or are out of range.
    """
    shape = {"temperature": (), "isotonic": (values.size,)}.get(method, (classes,))
    if values.shape != shape or not np.isfinite(values).all():
        raise UserError(f"calibration {method}: {name} of the shape {values.shape}; expected {shape}, all finite.")
    right, expected = np.ones(1, dtype=np.bool_), "numbers"
    if method == "temperature":
        right, expected = values > 0, "a number above 0"
    elif method == "prior_shift":
        right, expected = (values > 0) & (values < 1), "shares between 0 and 1"
    elif method == "isotonic":
        right = (values >= 0) & (values <= 1) & (np.diff(values, prepend=values[:1]) >= 0)
        expected = "shares from 0 to 1, ascending"
    if not right.all():
        raise UserError(f"calibration {method}: {name} is {values.ravel()[:5].tolist()}…; expected {expected}.")


def _checked_prior(prior: float) -> float:
    if not 0 <= prior < np.inf:
        raise UserError(f"calibration.prior={prior}: expected a number of records, 0 or more.")
    return prior


def _checked(y: npt.ArrayLike, p: npt.ArrayLike, classes: Sequence[str]) -> tuple[BoolArray, FloatArray]:
    positive, probability = check_probabilities(y, p)
    if positive.shape[1] != len(classes):
        raise UserError(
            f"One class name per column is needed, found {len(classes)} names for {positive.shape[1]} columns."
        )
    return positive, probability


def _logits(p: npt.ArrayLike, single_label: bool) -> FloatArray:
    """What the activation was applied to; of a softmax, up to a constant for each record."""
    inside = np.asarray(p, dtype=np.float64).clip(_TINY, 1 - _TINY)
    z: FloatArray = np.log(inside) if single_label else np.log(inside) - np.log1p(-inside)
    return z


def _probabilities(z: FloatArray, single_label: bool) -> FloatArray:
    from scipy.special import expit, softmax

    p: FloatArray = softmax(z, axis=1) if single_label else expit(z)
    return p


def _loss(positive: BoolArray, z: FloatArray, single_label: bool) -> float:
    """Negative log-likelihood of logits: a mean over records, multi-label over classes too."""
    from scipy.special import logsumexp

    if single_label:
        return float((logsumexp(z, axis=1) - (z * positive).sum(axis=1)).mean())
    return float(np.logaddexp(0.0, np.where(positive, -z, z)).mean())
