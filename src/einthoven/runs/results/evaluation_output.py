"""Show the results of an evaluation on the terminal, turn them into JSON, and log them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.contracts import Predictions
from einthoven.evaluation.metrics import auroc_per_class
from einthoven.evaluation.selective import abstention
from einthoven.predict.model_folder import BUNDLE
from einthoven.report.decisions import decision_curve_figure, reliability_figure, risk_coverage_figure
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.results.evaluation_results import RULES, EvaluationResults
from einthoven.schema import EvaluationOptions
from einthoven.terminal.display import console, say
from einthoven.terminal.evaluation_tables import (
    coverage_table,
    differences_table,
    metrics_table,
    points_table,
    subgroups_table,
    unsure_table,
)
from einthoven.tracking.recorder import Recorder

OF_CLASSES = ("auroc/", "conformal/coverage/", "conformal/coverage_own/")
"""Metrics of single classes."""

RATES = ("sensitivity", "specificity", "ppv", "npv", "f1")
"""Rates of an operating point that are logged."""


def show_results(run: NetworkParts, options: EvaluationOptions, results: EvaluationResults) -> None:
    """Print the results as tables."""
    folds = asdict(run.settings.folds)
    classes = run.data.labels.classes
    say(
        f"The results are those of {len(run.data.patients(options.report)):,} records of "
        f"{name_folds(folds[options.report])}. The calibration ({results.calibration['method']}) and the "
        f"thresholds are fitted to {name_folds(folds[options.fit])}."
    )
    say(
        f"The intervals have a level of {options.level:.0%} ({options.interval}, {results.interval.resamples} "
        "resamples of patients). A resample that lacks one of the two labels of a class leaves out this class "
        f"({results.interval.classes_missing_share:.1%} of the classes)."
    )
    absent = [name for name, interval in zip(classes, results.per_class, strict=True) if interval is None]
    if absent:
        say(
            f"Left out are the classes that lack one of their two labels in these folds or in the training: "
            f"{' '.join(absent)}."
        )
    without_threshold = [name for name in classes if name not in results.points]
    if without_threshold:
        say(
            f"There are no thresholds for the classes that lack one of their two labels in the fitting folds: "
            f"{' '.join(without_threshold)}."
        )
    first_rule = RULES[0]
    console.print(metrics_table(classes, results.metrics, results.interval, results.per_class))
    console.print(points_table({name: points[first_rule] for name, points in results.points.items()}, first_rule))
    console.print(unsure_table(results.metrics))
    coverage = coverage_table(results.metrics, classes)
    if coverage is not None:
        console.print(coverage)
    if results.groups:
        console.print(subgroups_table(results.groups, classes))
    if results.differences:
        console.print(differences_table(results.differences))


def name_folds(folds: Sequence[int]) -> str:
    """Return folds in words, such as ``fold 9`` or ``the folds 9, 10``."""
    listed = ", ".join(map(str, folds))
    return f"fold {listed}" if len(folds) == 1 else f"the folds {listed}"


def results_as_json(run: NetworkParts, options: EvaluationOptions, results: EvaluationResults) -> dict[str, Any]:
    """Return the results as values of JSON. A number that is not defined is null."""
    folds = asdict(run.settings.folds)
    auroc = {}
    for name, interval in zip(run.data.labels.classes, results.per_class, strict=True):
        auroc[name] = None if interval is None else asdict(interval)
    operating_points = {}
    for name, points in results.points.items():
        operating_points[name] = {str(rule): asdict(point) for rule, point in points.items()}
    return as_json(
        {
            "folds": {"train": folds["train"], "fit": folds[options.fit], "report": folds[options.report]},
            "records": len(run.data.patients(options.report)),
            "interval": {"level": options.level, "method": options.interval, "by": "patient"},
            "metrics": results.metrics,
            "macro_auroc": asdict(results.interval),
            "auroc": auroc,
            "laplace": {"prior_precision": results.prior_precision} if options.laplace else None,
            "calibration": results.calibration,
            "operating_points": operating_points,
            "subgroups": [asdict(group) for group in results.groups],
            "differences": {name: asdict(difference) for name, difference in results.differences.items()},
        }
    )


def as_json(value: Any) -> Any:
    """Turn arrays into lists, and numbers that are not finite into None."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def log_results(
    recorder: Recorder,
    run: NetworkParts,
    split: str,
    results: EvaluationResults,
    report: Predictions,
    raw_p: NDArray[np.float64],
    place: Path,
) -> None:
    """Log metrics, figures, tables and files to the MLflow run.

    `report` has the calibrated probabilities of the reported split, and `raw_p` those before calibration. If the folder
    of the files is not that of the run, its name is that of another label set, or ``mean``. It becomes a part of the
    names of metrics, figures and files.
    """
    reading = "" if place == run.folder else f"/{place.name}"
    _log_metrics(recorder, f"{split}/evaluate{reading}", results)
    suffix = reading.replace("/", "_")

    # Figures of the classes that have an AUROC.
    y, p = report.y, report.p
    drawn = np.flatnonzero(~np.isnan(auroc_per_class(y, raw_p)))
    names = [run.data.labels.classes[k] for k in drawn]
    both = {"before": raw_p[:, drawn], "after": p[:, drawn]}
    recorder.figure(reliability_figure(y[:, drawn], both, names), f"reliability{suffix}")
    recorder.figure(decision_curve_figure(y[:, drawn], p[:, drawn], names), f"decision_curves{suffix}")
    recorder.figure(risk_coverage_figure(abstention(y, p, run.task.single_label)), f"risk_coverage{suffix}")

    columns: dict[str, list[Any]] = {name: [] for name in ("class", "rule", "threshold", "transfer", *RATES)}
    for name, points in results.points.items():
        for rule, point in points.items():
            columns["class"].append(name)
            columns["rule"].append(str(rule))
            columns["threshold"].append(point.threshold)
            columns["transfer"].append(point.transfer)
            for rate in RATES:
                columns[rate].append(point.judged[rate])
    recorder.table(columns, f"evaluation{reading}/operating_points.json")

    recorder.file(place / "evaluation.json", f"evaluation{reading}")
    # A mean has no model card.
    if (place / "model_card.md").exists():
        recorder.file(place / "model_card.md", f"evaluation{reading}")
    # A Laplace approximation has no bundle.
    if results.prior_precision is None:
        for file in sorted((place / BUNDLE).glob("*")):
            recorder.file(file, f"{BUNDLE}{reading}")


def _log_metrics(recorder: Recorder, prefix: str, results: EvaluationResults) -> None:
    """Log the metrics as a point of curves. Another evaluation of the run is a later point of the same curves."""
    metrics = results.metrics | {
        "macro_auroc_low": results.interval.low,
        "macro_auroc_high": results.interval.high,
    }
    named = {}
    for name, value in metrics.items():
        # The values of each class are in evaluation.json, and nll is the same as nll/before.
        if name != "nll" and not name.startswith(OF_CLASSES):
            named[f"{prefix}/{name.replace('/', '_')}"] = value
    log_next_point(recorder, named)


def log_next_point(recorder: Recorder, metrics: dict[str, float]) -> None:
    """Log metrics of a finished run as the next point of their curves."""
    last_steps = [recorder.history[name][0][-1] for name in metrics if name in recorder.history]
    recorder.log_metrics(max(last_steps, default=-1) + 1, metrics)
