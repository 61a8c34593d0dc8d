"""The calibration at the end of a training: fitted to the validation records, and judged on the test records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from einthoven.contracts import Predictions, TaskKind
from einthoven.evaluation.calibration import Calibration, Temperature
from einthoven.evaluation.calibration_check import CalibrationCheck, fit_and_check
from einthoven.evaluation.calibration_state import fitted_state
from einthoven.evaluation.metrics import have_both_labels
from einthoven.evaluation.operating_points import thresholds_and_rates
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.results.bundle import Fitted
from einthoven.runs.results.evaluation_output import as_json
from einthoven.runs.results.evaluation_results import RULES, probability_metrics

FITTED_SPLIT = "val"
JUDGED_SPLIT = "test"


def calibrate(run: NetworkParts, predictions: Mapping[str, Predictions], metrics: Mapping[str, float]) -> Fitted | None:
    """Fit a temperature and thresholds for the bundle of a run that has just been trained.

    `einthoven evaluate` does the same with a calibration of the user's choice. Without test records, the validation
    records are those that the run reports. Then nothing is fitted to them. A run without classes, validation records or
    test records gets None.
    """
    if run.task.kind is not TaskKind.CLASSES or not {FITTED_SPLIT, JUDGED_SPLIT} <= predictions.keys():
        return None
    classes = run.data.labels.classes
    raw_fit = predictions[FITTED_SPLIT]
    raw_judged = predictions[JUDGED_SPLIT]
    new_calibration = partial(Temperature, classes, run.task.single_label)
    calibration, _ = fit_and_check(
        new_calibration, raw_fit.y, raw_fit.p, run.data.patients(FITTED_SPLIT), run.settings.seed
    )
    fit = Predictions(raw_fit.y, calibration.transform(raw_fit.p))
    judged = Predictions(raw_judged.y, calibration.transform(raw_judged.p))

    # The bundle has the metrics that an evaluation gives it.
    bundle_metrics = probability_metrics(run, judged.y, judged.p, "after")
    for name in ("macro_auroc", "macro_auroc_low", "macro_auroc_high"):
        if f"{JUDGED_SPLIT}/{name}" in metrics:
            bundle_metrics[name] = metrics[f"{JUDGED_SPLIT}/{name}"]
    return Fitted(calibration, FITTED_SPLIT, fit.y, fit.p, _points(classes, fit, judged), as_json(bundle_metrics))


def _points(
    classes: tuple[str, ...], fit: Predictions, judged: Predictions
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return thresholds and their rates on the judged records, for each class with both labels in the fitted ones."""
    columns = np.flatnonzero(have_both_labels(fit.y))
    thresholds, _, rates = thresholds_and_rates(
        (fit.y[:, columns], fit.p[:, columns]), (judged.y[:, columns], judged.p[:, columns]), RULES
    )
    points: dict[str, dict[str, dict[str, float | None]]] = {}
    for number, column in enumerate(columns):
        of_class = points.setdefault(classes[column], {})
        for place, rule in enumerate(RULES):
            pair = number * len(RULES) + place
            of_class[str(rule)] = as_json({"threshold": float(thresholds[pair]), **rates[pair]})
    return points


def describe_calibration(
    requested_calibration: partial[Calibration], calibration: Calibration, calibration_check: CalibrationCheck | None
) -> dict[str, Any]:
    """Return the method that is used, its fitted state, its check, and the requested method if it is not used."""
    requested = requested_calibration.func.__name__.lower()
    is_used = calibration_check is None or calibration_check.is_better
    return {
        "method": requested if is_used else "uncalibrated",
        "learned": fitted_state(calibration),
        "not_used": None if is_used else requested,
        "cross_validation": None if calibration_check is None else asdict(calibration_check),
    }


def explain_not_used(calibration: Mapping[str, Any]) -> str | None:
    """Return a sentence about a calibration that is not used; None if it is used.

    `calibration` is as `describe_calibration` returns it.
    """
    if calibration["not_used"] is None:
        return None
    result = calibration["cross_validation"]
    if result["parts"] < 2:
        reason = "the fitting folds hold records of one patient, which cannot tell whether it helps others"
    else:
        reason = (
            f"by {result['parts']}-fold cross-validation over the patients of the fitting folds, it changes the "
            f"negative log-likelihood from {result['before']:.4f} to {result['after']:.4f}"
        )
    return f"calibration={calibration['not_used']} is not used, and the probabilities are those of the model: {reason}"
