"""Thresholds chosen on some records and judged on others, and what acting on them is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.decisions import Confusion, confusion
from einthoven.evaluation.intervals import Interval, check_options, interval_of
from einthoven.evaluation.metrics import FloatArray, at_each_score, check_labels_scores
from einthoven.evaluation.resampling import members_of, resampled
from einthoven.evaluation.scores import check_probabilities

RULES = ("sensitivity", "specificity", "youden", "f1")
MEASURES = ("sensitivity", "specificity", "ppv", "npv", "f1")


@dataclass(frozen=True)
class Rule:
    """How a threshold is chosen.

    Parameters
    ----------
    name : str
        ``sensitivity`` or ``specificity``: the threshold that keeps it at `target` at least, at the best of the other.
        ``youden``: largest sensitivity + specificity - 1 (Youden, Cancer 1950). ``f1``: largest F1.
    target : float or None
        For the first two.
    """

    name: str
    target: float | None = None

    def __post_init__(self) -> None:
        """Check that the rule can be followed."""
        if self.name not in RULES:
            raise UserError(f"operating point {self.name}: expected one of {', '.join(RULES)}.")
        if (self.target is not None) != (self.name in RULES[:2]):
            raise UserError(f"operating point {self}: a target is for sensitivity and specificity, and needed there.")
        if self.target is not None and not 0 < self.target <= 1:
            raise UserError(f"operating point {self}: expected a target above 0 and up to 1.")

    def __str__(self) -> str:
        return self.name if self.target is None else f"{self.name}={self.target:g}"

    @property
    def measure(self) -> str:
        """The rate that the rule is about, whose value the other records may or may not repeat."""
        return "sensitivity" if self.name == "youden" else self.name


@dataclass(frozen=True)
class Point:
    """One threshold of one class, where it was chosen and where it is judged.

    Attributes
    ----------
    threshold : float
        A record is positive where ``p >= threshold``.
    chosen : dict of str to float
        Sensitivity, specificity, predictive values and F1 on the records that it was chosen on.
    judged : dict of str to float
        The same on the other records.
    intervals : dict of str to Interval or None
        Of `judged`; None where undefined.
    transfer : float
        `judged` less `chosen`, of the rate that the rule is about.
    transfer_interval : Interval or None
        With the threshold as it is: how far the judging records alone leave the error open.
    """

    threshold: float
    chosen: dict[str, float]
    judged: dict[str, float]
    intervals: dict[str, Interval | None]
    transfer: float
    transfer_interval: Interval | None


def choose_threshold(y_true: npt.ArrayLike, p: npt.ArrayLike, rule: Rule) -> float:
    """The threshold that a rule chooses for one class, among its distinct scores; exact on ties.

    Of several that are equally good the highest: the fewest positive decisions.

    Parameters
    ----------
    y_true, p : array-like, shape (n,)
        Labels, both present, and scores.
    rule : Rule

    Raises
    ------
    UserError
        If the class lacks positives or negatives; otherwise see
        `einthoven.evaluation.metrics.check_labels_scores`.
    """
    positive, scores = check_labels_scores(np.asarray(y_true)[:, None], np.asarray(p)[:, None])
    label, score = positive[:, 0], scores[:, 0]
    if label.all() or not label.any():
        raise UserError(f"A threshold needs both labels, found {int(label.sum())} positive of {len(label)} records.")
    distinct, tp, fp = at_each_score(label, score)
    # Above all scores: no positive decision, which keeps any specificity.
    thresholds = np.append(np.nextafter(distinct[0], np.inf), distinct)
    tp, fp = np.append(0.0, tp), np.append(0.0, fp)
    at = Confusion(tp, fp, label.sum() - tp, (~label).sum() - fp)
    if rule.target is not None:
        kept = at.sensitivity >= rule.target if rule.name == "sensitivity" else at.specificity >= rule.target
        other = at.specificity if rule.name == "sensitivity" else at.sensitivity
        return float(thresholds[np.argmax(np.where(kept, other, -1.0))])
    worth = at.sensitivity + at.specificity if rule.name == "youden" else np.nan_to_num(at.f1)
    return float(thresholds[np.argmax(worth)])


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
    """Choose thresholds for each class by each rule on some records, and judge them on others.

    All are judged on the same resamples, drawn once.

    Parameters
    ----------
    fit, report : (labels, probabilities), each of shape (n, K)
        Records to choose on, and records to judge on.
    rules : sequence of Rule
    resamples, level, seed, groups
        Of the judging records, as in `einthoven.evaluation.bootstrap.bootstrap_interval`.

    Returns
    -------
    list of K dict of Rule to Point

    Raises
    ------
    UserError
        If a class lacks one of the labels in the choosing records, or as in `bootstrap_interval`.
    """
    check_options(level, resamples, "percentile")
    (fit_y, fit_p), (y, p) = ([np.asarray(array) for array in pair] for pair in (fit, report))
    pairs = [(k, rule) for k in range(fit_y.shape[1]) for rule in rules]
    column = [k for k, _ in pairs]
    thresholds = np.array([choose_threshold(fit_y[:, k], fit_p[:, k], rule) for k, rule in pairs])
    labels, stated = y[:, column], p[:, column] >= thresholds
    chosen = _measures(confusion(fit_y[:, column], fit_p[:, column] >= thresholds))
    judged = _measures(confusion(labels, stated))
    values = resampled(
        lambda counts: _measures(confusion(labels, stated, counts)), members_of(groups, len(labels)), resamples, seed
    )
    points: list[dict[Rule, Point]] = [{} for _ in range(fit_y.shape[1])]
    for i, (k, rule) in enumerate(pairs):
        of_rule = MEASURES.index(rule.measure)
        points[k][rule] = Point(
            threshold=float(thresholds[i]),
            chosen=dict(zip(MEASURES, chosen[i].tolist(), strict=True)),
            judged=dict(zip(MEASURES, judged[i].tolist(), strict=True)),
            intervals={name: _interval(values[:, i, m], level) for m, name in enumerate(MEASURES)},
            transfer=float(judged[i, of_rule] - chosen[i, of_rule]),
            transfer_interval=_interval(values[:, i, of_rule] - chosen[i, of_rule], level),
        )
    return points


def net_benefit(y_true: npt.ArrayLike, p: npt.ArrayLike, thresholds: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Net benefit of acting where ``p >= t``, and of acting always, in true positives a record; acting never is 0.

    ``TP / n - FP / n * t / (1 - t)``: someone who acts at a probability of t holds 1 - t wrongly treated to be worth t
    rightly treated.

    Parameters
    ----------
    y_true, p : array-like, shape (n,)
        Labels, and probabilities in 0 ... 1.
    thresholds : array-like, shape (T,)
        Threshold probabilities, 0 <= t < 1.

    Returns
    -------
    model, always : array of float64, shape (T,)

    Raises
    ------
    UserError
        If a threshold is out of range, or as in `einthoven.evaluation.scores.check_probabilities`.

    References
    ----------
    Vickers and Elkin, "Decision curve analysis: a novel method for evaluating prediction models", Medical Decision
    Making 2006.
    """
    at = np.asarray(thresholds, dtype=np.float64)
    if not np.all((at >= 0) & (at < 1)):
        raise UserError("Threshold probabilities of a decision curve lie between 0 and 1, 1 left out.")
    positive, probability = check_probabilities(np.asarray(y_true)[:, None], np.asarray(p)[:, None])
    label, odds = positive[:, 0], at / (1 - at)
    acted = probability >= at  # (n, T)
    model = (acted & label[:, None]).mean(axis=0) - (acted & ~label[:, None]).mean(axis=0) * odds
    return model, label.mean() - (1 - label.mean()) * odds


def _measures(found: Confusion) -> FloatArray:
    """The measures side by side: confusion of (..., K) -> (..., K, measures)."""
    return np.stack([getattr(found, name) for name in MEASURES], axis=-1)


def _interval(values: FloatArray, level: float) -> Interval | None:
    defined = values[~np.isnan(values)]
    return interval_of(defined, level) if len(defined) else None
