"""Compute the results of an evaluation: metrics, intervals, operating points, subgroups and differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.contracts import Predictions
from einthoven.errors import UserError
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.comparison import Difference, paired_difference
from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.metrics import have_both_labels, macro_auroc
from einthoven.evaluation.operating_points import Point, Rule, operating_points
from einthoven.evaluation.scores import brier_per_class, calibration_error_per_class
from einthoven.evaluation.selective import selective_metrics
from einthoven.evaluation.subgroups import Subgroup, subgroups
from einthoven.runs.data.attributes import attributes
from einthoven.runs.network.finished import read_finished
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.schema import EvaluationOptions

Predict = Callable[..., Predictions]
"""(split, aggregate=…) -> predictions of its records."""

RULES = (
    Rule("sensitivity", 0.9),
    Rule("sensitivity", 0.95),
    Rule("specificity", 0.9),
    Rule("youden"),
    Rule("f1"),
)
"""How thresholds are chosen."""


@dataclass(frozen=True)
class EvaluationResults:
    """All results of an evaluation, before they are shown or written."""

    metrics: dict[str, float]
    interval: Interval
    """Of the macro AUROC."""
    per_class: list[Interval | None]
    """Of the AUROC of each class; None for a class without both labels."""
    points: dict[str, dict[Rule, Point]]
    """Class -> rule -> operating point, for each class that has both labels in the fitting folds."""
    groups: list[Subgroup]
    differences: dict[str, Difference]
    calibration: dict[str, Any]
    """The calibration that is used, its fitted state, and its check."""
    prior_precision: float | None
    """Of the Laplace approximation."""


def compute_results(
    run: NetworkParts,
    options: EvaluationOptions,
    predict: Predict,
    fit: Predictions,
    report: Predictions,
    raw_p: NDArray[np.float64],
    calibration: dict[str, Any],
    prior_precision: float | None,
) -> EvaluationResults:
    """Compute all results.

    `predict` predicts a split once more with another aggregation. The fitting and the reported split have calibrated
    probabilities, and `raw_p` are those of the reported split before calibration.
    """
    y, p = report.y, report.p
    bootstrap = _bootstrap_options(run, options)
    interval, per_class = auroc_intervals(run.task.ranked(y), raw_p, method=options.interval, **bootstrap)
    metrics = _metrics(run, y, raw_p, p)
    metrics |= selective_metrics(fit.y, fit.p, y, p, run.task.single_label, run.data.labels.classes)
    return EvaluationResults(
        metrics=metrics,
        interval=interval,
        per_class=per_class,
        points=_operating_points(run, fit, report, bootstrap),
        groups=_subgroups(run, options, report, bootstrap),
        differences=_differences(run, options, y, raw_p, predict, bootstrap),
        calibration=calibration,
        prior_precision=prior_precision,
    )


def _bootstrap_options(run: NetworkParts, options: EvaluationOptions) -> dict[str, Any]:
    """Return the options of every bootstrap. It resamples patients."""
    return {
        "resamples": options.resamples,
        "level": options.level,
        "seed": run.settings.seed,
        "groups": run.data.patients(options.report),
    }


def _metrics(
    run: NetworkParts, y: NDArray[np.float64], raw_p: NDArray[np.float64], p: NDArray[np.float64]
) -> dict[str, float]:
    """Return the metrics of the task, and those that a calibration changes, before and after it."""
    metrics = dict(run.task.metrics(y, raw_p, run.data.labels.classes))
    return metrics | probability_metrics(run, y, raw_p, "before") | probability_metrics(run, y, p, "after")


def probability_metrics(
    run: NetworkParts, y: NDArray[np.float64], p: NDArray[np.float64], when: str
) -> dict[str, float]:
    """Return the metrics that a calibration changes: ``nll``, ``brier`` and ``ece``, with ``/before`` or ``/after``."""
    return {
        f"nll/{when}": run.task.negative_log_likelihood(y, p),
        f"brier/{when}": float(brier_per_class(y, p).mean()),
        f"ece/{when}": float(calibration_error_per_class(y, p).mean()),
    }


def _operating_points(
    run: NetworkParts, fit: Predictions, report: Predictions, bootstrap: dict[str, Any]
) -> dict[str, dict[Rule, Point]]:
    """Apply every rule to each class that has both labels in the fitting split."""
    classes = np.flatnonzero(have_both_labels(fit.y))
    points = operating_points(
        (fit.y[:, classes], fit.p[:, classes]), (report.y[:, classes], report.p[:, classes]), RULES, **bootstrap
    )
    names = run.data.labels.classes
    return {names[k]: of_class for k, of_class in zip(classes, points, strict=True)}


def _subgroups(
    run: NetworkParts, options: EvaluationOptions, report: Predictions, bootstrap: dict[str, Any]
) -> list[Subgroup]:
    """Evaluate the subgroups of every attribute in which the records differ."""
    others = {name: value for name, value in bootstrap.items() if name != "groups"}
    patients = bootstrap["groups"]
    ranked = run.task.ranked(report.y)
    groups: list[Subgroup] = []
    for attribute, values in attributes(run.data.table(options.report)).items():
        if len(set(values)) > 1:
            groups += subgroups(
                report.y, report.p, attribute, values, patients, ranked=ranked, small=options.small, **others
            )
    return groups


def _differences(
    run: NetworkParts,
    options: EvaluationOptions,
    y: NDArray[np.float64],
    p: NDArray[np.float64],
    predict: Predict,
    bootstrap: dict[str, Any],
) -> dict[str, Difference]:
    """Compare aggregations of windows, a Laplace approximation with the trained layer, and this run with another."""
    differences: dict[str, Difference] = {}
    ranked = run.task.ranked(y)
    likelihood = run.task.negative_log_likelihood

    # Max against mean over the windows of a record.
    if run.has_several_windows(options.report):
        p_by_rule = {run.settings.trainer.aggregate: p}
        for rule in ("mean", "max"):
            if rule not in p_by_rule:
                p_by_rule[rule] = predict(options.report, aggregate=rule).p
        differences["macro AUROC: max less mean of windows"] = paired_difference(
            ranked, p_by_rule["mean"], p_by_rule["max"], macro_auroc, **bootstrap
        )
        differences["negative log-likelihood: max less mean of windows"] = paired_difference(
            y, p_by_rule["mean"], p_by_rule["max"], likelihood, **bootstrap
        )

    if options.laplace:
        trained_p = run.evaluate(options.report, "fp32").p
        differences["negative log-likelihood: last layer integrated out less as trained"] = paired_difference(
            y, trained_p, p, likelihood, **bootstrap
        )

    if options.against is not None:
        other = _read_other_run(run, options)
        other_p = other.evaluate(options.report, "fp32").p
        differences["macro AUROC: run less against"] = paired_difference(ranked, other_p, p, **bootstrap)
    return differences


def _read_other_run(run: NetworkParts, options: EvaluationOptions) -> NetworkParts:
    """Read the run that this one is compared with, and refuse it if its classes or records differ."""
    folds = asdict(run.settings.folds)
    chosen_folds = {split: folds[split] for split in ("val", "test")}
    other, _ = read_finished(Path(str(options.against)), "against", chosen_folds, options.labels)
    has_same_classes = other.data.labels.classes == run.data.labels.classes
    if not has_same_classes or not _has_same_records(run, other, options.report):
        raise UserError(
            f"against={options.against}: its records or classes are not those of run={options.run}; two models "
            "are compared on the same."
        )
    return other


def _has_same_records(run: NetworkParts, other: NetworkParts, split: str) -> bool:
    """Return whether two runs have the same records in a split.

    Their numbers are compared, and their signals if both stores have the same sampling frequency, leads and length.
    """
    ids = [r.data.labels.ecg_ids[r.data.rows[split]] for r in (run, other)]
    if not np.array_equal(ids[0], ids[1]):
        return False
    formats = [(r.data.store.fs, r.data.store.leads, r.data.store.signals.shape[1:]) for r in (run, other)]
    return formats[0] != formats[1] or np.array_equal(run.data.digests(split), other.data.digests(split))
