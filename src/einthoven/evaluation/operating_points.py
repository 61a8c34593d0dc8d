"""Thresholds that are chosen on some records and tested on others, and the net benefit of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.decisions import Confusion, confusion
from einthoven.evaluation.intervals import Interval, check_interval_options, compute_interval
from einthoven.evaluation.metrics import FloatArray, check_labels_scores, count_at_scores
from einthoven.evaluation.resampling import number_groups, resample_statistic
from einthoven.evaluation.scores import check_probabilities

RULES = ("sensitivity", "specificity", "youden", "f1")
MEASURES = ("sensitivity", "specificity", "ppv", "npv", "f1")


@dataclass(frozen=True)
class Rule:
    """Rule by which a threshold is chosen.

    Parameters
    ----------
    name : str
        ``sensitivity``: the largest specificity with a sensitivity of at least `target`. ``specificity``: the largest
        sensitivity with a specificity of at least `target`. ``youden``: the largest sensitivity + specificity - 1
        (Youden, Cancer 1950). ``f1``: the largest F1.
    target : float or None
        Needed for ``sensitivity`` and ``specificity``, not allowed for the other rules.
    """

    name: str
    target: float | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown name, or a target that does not fit to the name."""
        if self.name not in RULES:
            raise UserError(f"operating point {self.name}: expected one of {', '.join(RULES)}.")
        needs_target = self.name in ("sensitivity", "specificity")
        if (self.target is not None) != needs_target:
            raise UserError(
                f"operating point {self}: sensitivity and specificity need a target, and the other rules have none."
            )
        if self.target is not None and not 0 < self.target <= 1:
            raise UserError(f"operating point {self}: expected a target above 0 and up to 1.")

    def __str__(self) -> str:
        return self.name if self.target is None else f"{self.name}={self.target:g}"

    @property
    def measure(self) -> str:
        """The rate whose values on the choosing records and on the test records are compared."""
        return "sensitivity" if self.name == "youden" else self.name


@dataclass(frozen=True)
class Point:
    """A threshold of one class, with its rates on the choosing records and on the test records.

    Attributes
    ----------
    threshold : float
        A record is decided positive if ``p >= threshold``.
    chosen : dict of str to float
        Sensitivity, specificity, predictive values and F1 on the records on which the threshold was chosen.
    judged : dict of str to float
        The same rates on the test records.
    intervals : dict of str to Interval or None
        Intervals of the rates in `judged`. None if a rate is not defined.
    transfer : float
        Difference ``judged - chosen`` of the rate `Rule.measure`.
    transfer_interval : Interval or None
        Interval of `transfer` over resamples of the test records, with a fixed threshold.
    """

    threshold: float
    chosen: dict[str, float]
    judged: dict[str, float]
    intervals: dict[str, Interval | None]
    transfer: float
    transfer_interval: Interval | None


def choose_threshold(y_true: npt.ArrayLike, p: npt.ArrayLike, rule: Rule) -> float:
    """Choose the threshold of one class by a rule, among the distinct scores. Ties are handled exactly.

    If several thresholds are equally good, the highest one is chosen. It gives the fewest positive decisions.

    Parameters
    ----------
    y_true, p : array-like, shape (n,)
        Labels and scores. Both labels must occur.
    rule : Rule
        The rule.

    Raises
    ------
    UserError
        If the class lacks positives or negatives; otherwise see
        `einthoven.evaluation.metrics.check_labels_scores`.
    """
    positive, scores = check_labels_scores(np.asarray(y_true)[:, None], np.asarray(p)[:, None])
    label = positive[:, 0]
    score = scores[:, 0]
    if label.all() or not label.any():
        raise UserError(f"A threshold needs both labels, found {int(label.sum())} positive of {len(label)} records.")
    distinct, tp, fp = count_at_scores(label, score)

    # A threshold above all scores gives no positive decision. So every target of the specificity can be reached.
    thresholds = np.append(np.nextafter(distinct[0], np.inf), distinct)
    tp = np.append(0.0, tp)
    fp = np.append(0.0, fp)
    matrix = Confusion(tp, fp, label.sum() - tp, (~label).sum() - fp)

    # Only the rules `sensitivity` and `specificity` have a target.
    if rule.name == "youden":
        value = matrix.sensitivity + matrix.specificity
    elif rule.target is None:
        value = np.nan_to_num(matrix.f1)
    elif rule.name == "sensitivity":
        value = np.where(matrix.sensitivity >= rule.target, matrix.specificity, -1.0)
    else:
        value = np.where(matrix.specificity >= rule.target, matrix.sensitivity, -1.0)
    # The thresholds are descending, and `argmax` returns the first maximum.
    return float(thresholds[np.argmax(value)])


def operating_points(
    fit: tuple[npt.ArrayLike, npt.ArrayLike],
    report: tuple[npt.ArrayLike, npt.ArrayLike],
    rules: Sequence[Rule],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> list[dict[Rule, Point]]:
    """Choose thresholds for each class by each rule on some records, and test them on other records.

    All thresholds are tested on the same resamples.

    Parameters
    ----------
    fit, report : (labels, probabilities), each of shape (n, K)
        The choosing records and the test records.
    rules : sequence of Rule
        The rules.
    resamples, level, seed, groups
        As in `einthoven.evaluation.bootstrap.bootstrap_interval`, for the test records.

    Returns
    -------
    list of K dict of Rule to Point

    Raises
    ------
    UserError
        If a class lacks one of the labels in the choosing records, or as in `bootstrap_interval`.
    """
    check_interval_options(level, resamples, "percentile")
    y, p = map(np.asarray, report)
    num_classes = y.shape[1]
    pairs = _pairs(num_classes, rules)
    thresholds, chosen, judged = _judge_thresholds(fit, report, pairs)
    class_of_column = [k for k, _ in pairs]
    labels = y[:, class_of_column]
    decisions = p[:, class_of_column] >= thresholds
    values = resample_statistic(
        lambda counts: _measures(confusion(labels, decisions, counts)),
        number_groups(groups, len(labels)),
        resamples,
        seed,
    )

    chosen_rates = _as_rates(chosen)
    judged_rates = _as_rates(judged)
    points: list[dict[Rule, Point]] = [{} for _ in range(num_classes)]
    for column, (k, rule) in enumerate(pairs):
        measure = MEASURES.index(rule.measure)
        points[k][rule] = Point(
            threshold=float(thresholds[column]),
            chosen=chosen_rates[column],
            judged=judged_rates[column],
            intervals={name: _interval(values[:, column, m], level) for m, name in enumerate(MEASURES)},
            transfer=float(judged[column, measure] - chosen[column, measure]),
            transfer_interval=_interval(values[:, column, measure] - chosen[column, measure], level),
        )
    return points


def thresholds_and_rates(
    fit: tuple[npt.ArrayLike, npt.ArrayLike], report: tuple[npt.ArrayLike, npt.ArrayLike], rules: Sequence[Rule]
) -> tuple[FloatArray, list[dict[str, float]], list[dict[str, float]]]:
    """Choose thresholds as `operating_points` does, without intervals.

    Parameters
    ----------
    fit, report, rules
        As in `operating_points`.

    Returns
    -------
    thresholds : array of float64, shape (K * R,)
        Of each class by each rule. The rules of the first class come first.
    chosen, judged : list of dict of str to float
        The rates of `Point`, in the same order.
    """
    pairs = _pairs(np.asarray(fit[0]).shape[1], rules)
    thresholds, chosen, judged = _judge_thresholds(fit, report, pairs)
    return thresholds, _as_rates(chosen), _as_rates(judged)


def _pairs(num_classes: int, rules: Sequence[Rule]) -> list[tuple[int, Rule]]:
    """Return each pair of a class and a rule. It becomes one column."""
    return [(k, rule) for k in range(num_classes) for rule in rules]


def _judge_thresholds(
    fit: tuple[npt.ArrayLike, npt.ArrayLike],
    report: tuple[npt.ArrayLike, npt.ArrayLike],
    pairs: Sequence[tuple[int, Rule]],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the threshold of each pair (P,), and its `MEASURES` (P, M) on the choosing and on the test records."""
    fit_y, fit_p = map(np.asarray, fit)
    y, p = map(np.asarray, report)
    columns = [k for k, _ in pairs]
    thresholds = np.array([choose_threshold(fit_y[:, k], fit_p[:, k], rule) for k, rule in pairs])
    chosen = _measures(confusion(fit_y[:, columns], fit_p[:, columns] >= thresholds))
    judged = _measures(confusion(y[:, columns], p[:, columns] >= thresholds))
    return thresholds, chosen, judged


def _as_rates(measures: FloatArray) -> list[dict[str, float]]:
    """Return measures (P, M) with their names."""
    return [dict(zip(MEASURES, values, strict=True)) for values in measures.tolist()]


def net_benefit(y_true: npt.ArrayLike, p: npt.ArrayLike, thresholds: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Compute the net benefit of treating the records with ``p >= t``, and of treating all records.

    The net benefit is ``TP / n - FP / n * t / (1 - t)``. Its unit is true positives per record. Without any treatment
    it is 0. A threshold of t means that 1 - t wrong treatments cost as much as t correct treatments gain.

    Parameters
    ----------
    y_true, p : array-like, shape (n,)
        Labels, and probabilities in 0 ... 1.
    thresholds : array-like, shape (T,)
        Threshold probabilities, 0 <= t < 1.

    Returns
    -------
    model, all_treated : array of float64, shape (T,)

    Raises
    ------
    UserError
        If a threshold is out of range, or as in `einthoven.evaluation.scores.check_probabilities`.

    References
    ----------
    Vickers and Elkin, "Decision curve analysis: a novel method for evaluating prediction models", Medical Decision
    Making 2006.
    """
    t = np.asarray(thresholds, dtype=np.float64)
    if not np.all((t >= 0) & (t < 1)):
        raise UserError("Threshold probabilities of a decision curve must be between 0 and 1, and below 1.")
    positive, probability = check_probabilities(np.asarray(y_true)[:, None], np.asarray(p)[:, None])
    label = positive[:, 0]
    odds = t / (1 - t)
    is_treated = probability >= t
    true_positives = (is_treated & label[:, None]).mean(axis=0)
    false_positives = (is_treated & ~label[:, None]).mean(axis=0)
    model = true_positives - false_positives * odds
    all_treated = label.mean() - (1 - label.mean()) * odds
    return model, all_treated


def _measures(matrix: Confusion) -> FloatArray:
    """Stack the rates in `MEASURES`: confusion matrices (..., K) -> (..., K, measures)."""
    return np.stack([getattr(matrix, name) for name in MEASURES], axis=-1)


def _interval(values: FloatArray, level: float) -> Interval | None:
    """Return the interval of the values that are not nan, or None if there are none."""
    defined = values[~np.isnan(values)]
    return compute_interval(defined, level) if len(defined) else None
