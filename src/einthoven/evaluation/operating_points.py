"""Thresholds chosen on some records and judged on others, and what acting on them is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.bootstrap import Interval, check_options, interval_of
from einthoven.evaluation.decisions import Confusion, confusion
from einthoven.evaluation.metrics import FloatArray, check_labels_scores
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
    order = np.argsort(-score)
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    tp = np.cumsum(label[order])[ends].astype(np.float64)
    fp = ends + 1 - tp
    # Above all scores: no positive decision, which keeps any specificity.
    thresholds = np.append(np.nextafter(score.max(), np.inf), score[order][ends])
    tp, fp = np.append(0.0, tp), np.append(0.0, fp)
    at = Confusion(tp, fp, label.sum() - tp, (~label).sum() - fp)
    if rule.target is not None:
        kept = at.sensitivity >= rule.target if rule.name == "sensitivity" else at.specificity >= rule.target
        other = at.specificity if rule.name == "sensitivity" else at.sensitivity
        return float(thresholds[np.argmax(np.where(kept, other, -1.0))])
    worth = at.sensitivity + at.specificity if rule.name == "youden" else np.nan_to_num(at.f1)
    return float(thresholds[np.argmax(worth)])


def operating_point(
    fit: tuple[npt.ArrayLike, npt.ArrayLike],
    report: tuple[npt.ArrayLike, npt.ArrayLike],
    rule: Rule,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> Point:
    """Choose a threshold for one class on some records, and judge it on others.

    Parameters
    ----------
    fit, report : (labels, probabilities), each of shape (n,)
        Records to choose on, and records to judge on.
    rule : Rule
    resamples, level, seed, groups
        Of the judging records, as in `einthoven.evaluation.bootstrap.bootstrap_interval`.

    Raises
    ------
    UserError
        If the choosing records lack one of the labels, or as in `bootstrap_interval`.
    """
    check_options(level, resamples, "percentile")
    threshold = choose_threshold(*fit, rule)

    def decided(labels: npt.ArrayLike, p: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        return np.asarray(labels)[:, None] == 1, np.asarray(p)[:, None] >= threshold

    chosen = _measures(confusion(*decided(*fit)))[0]
    labels, stated = decided(*report)
    judged = _measures(confusion(labels, stated))[0]
    values = resampled(
        lambda counts: _measures(confusion(labels, stated, counts)), members_of(groups, len(labels)), resamples, seed
    )
    transfer = dict(zip(MEASURES, (judged - chosen).tolist(), strict=True))[rule.measure]
    intervals = {name: _interval(column, level) for name, column in zip(MEASURES, values.T, strict=True)}
    column = MEASURES.index(rule.measure)
    return Point(
        threshold=threshold,
        chosen=dict(zip(MEASURES, chosen.tolist(), strict=True)),
        judged=dict(zip(MEASURES, judged.tolist(), strict=True)),
        intervals=intervals,
        transfer=transfer,
        transfer_interval=_interval(values[:, column] - chosen[column], level),
    )


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
    """The measures of one class in a row: confusion of (..., 1) -> (B, measures)."""
    columns = [np.atleast_1d(getattr(found, name)[..., 0]) for name in MEASURES]
    return np.stack(columns, axis=-1)


def _interval(values: FloatArray, level: float) -> Interval | None:
    defined = values[~np.isnan(values)]
    return interval_of(defined, level) if len(defined) else None
