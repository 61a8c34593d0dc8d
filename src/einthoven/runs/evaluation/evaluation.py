"""`einthoven evaluate run=FOLDER`: evaluate a finished run with intervals, and log the results to its MLflow run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven import schema
from einthoven.atomic import write_text
from einthoven.build import build, check
from einthoven.contracts import Predictions, TaskKind
from einthoven.errors import UserError
from einthoven.evaluation.calibration import Calibration
from einthoven.evaluation.calibration_check import check_disjoint, fit_and_check
from einthoven.predict.model_folder import BUNDLE, refuse_without_bundle
from einthoven.runs.config.identity import identity_tags
from einthoven.runs.config.next_commands import bundle_commands
from einthoven.runs.evaluation.laplace import LaplaceRun
from einthoven.runs.folder.trained_data import write_ancestry
from einthoven.runs.folder.trained_run import check_trained
from einthoven.runs.network.finished import read_finished
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.results.bundle import Fitted, write_bundle
from einthoven.runs.results.calibrate import describe_calibration, explain_not_used
from einthoven.runs.results.evaluation_output import as_json, log_results, results_as_json, show_results
from einthoven.runs.results.evaluation_results import EvaluationResults, Predict, compute_results
from einthoven.runs.results.example_record import example_record
from einthoven.runs.results.mean_evaluation import PREDICTIONS, MeanOfModels, check_mean, write_mean
from einthoven.runs.results.model_card import model_card_of
from einthoven.runs.results.plain_files import write_gallery
from einthoven.schema import EvaluationOptions
from einthoven.terminal.display import say, say_next, warn
from einthoven.tracking import run_folder
from einthoven.tracking.addresses import require_run
from einthoven.tracking.closing import closing
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import without_password

if TYPE_CHECKING:
    from filelock import FileLock
    from omegaconf import DictConfig


READINGS = "readings"
"""Name of the folder, in the folder of a run, for evaluations of something else than the bundle of the run: of another
label set, or of a posterior of the weights."""

LAPLACE = "laplace"
"""Name of the folder in it for a posterior of the weights, or the end of the name with another label set."""


def evaluate(config: DictConfig) -> dict[str, float]:
    """Evaluate the run of a folder as ``conf/evaluate.yaml`` says, and return the metrics that were logged."""
    options = _read_options(config)
    other_folds = schema.read_group(config.data.folds, schema.OtherFolds, "data.folds")
    check(config.calibration, "calibration")
    if "train" in (options.fit, options.report) or options.fit == options.report:
        raise UserError(
            f"fit={options.fit} report={options.report}: expected val and test, one each; neither a calibration nor a "
            "figure may rest on records that were trained on, nor both on the same."
        )
    check_mean(options)
    folder = Path(options.run)
    check_trained(folder, "run")
    refuse_without_bundle(folder, f"run={options.run}")
    require_run(folder)
    with run_folder.writing(folder) as lock:
        return _evaluate(config, options, other_folds, lock)


def _read_options(config: DictConfig) -> EvaluationOptions:
    """Return the options that hold only values, checked."""
    from omegaconf import OmegaConf

    fixed = [str(name) for name in config if name not in ("calibration", "data")]
    return schema.read_group(OmegaConf.masked_copy(config, fixed), EvaluationOptions, "")


def evaluate_mean(run: NetworkParts, config: DictConfig, recorder: Recorder) -> MeanOfModels:
    """Evaluate the mean of a run that has just been trained and of other models, and log the results to the run.

    The run has its final weights, and the caller holds its folder. The configuration is composed from
    ``conf/evaluate.yaml``, and its ``mean_with`` names the other models.
    """
    options = _read_options(config)
    mean = MeanOfModels(run, options)
    judged = _judge(run, options, _calibration_of(run, config), mean.evaluate)
    place = _write_mean(run, options, mean, judged)
    if run.settings.tracking.artifacts:
        log_results(recorder, run, options.report, judged.results, judged.report, judged.raw_report.p, place)
    return mean


@dataclass(frozen=True)
class _Judged:
    """The predictions of an evaluation, and its results."""

    raw_report: Predictions
    """Of the reported split, before the calibration."""
    fit: Predictions
    report: Predictions
    """Of both splits, calibrated."""
    calibration: Calibration
    results: EvaluationResults


def _judge(
    run: NetworkParts,
    options: EvaluationOptions,
    new_calibration: partial[Calibration],
    predict: Predict,
    prior_precision: float | None = None,
) -> _Judged:
    """Predict both splits, fit the calibration on one, and report the other."""
    raw_fit = predict(options.fit)
    raw_report = predict(options.report)
    calibration, calibration_check = fit_and_check(
        new_calibration, raw_fit.y, raw_fit.p, run.data.patients(options.fit), run.settings.seed
    )
    fit = Predictions(raw_fit.y, calibration.transform(raw_fit.p))
    report = Predictions(raw_report.y, calibration.transform(raw_report.p))
    results = compute_results(
        run,
        options,
        predict,
        fit,
        report,
        raw_report.p,
        describe_calibration(new_calibration, calibration, calibration_check),
        prior_precision,
    )
    return _Judged(raw_report, fit, report, calibration, results)


def _calibration_of(run: NetworkParts, config: DictConfig) -> partial[Calibration]:
    """Return a function that makes the calibration of a configuration."""
    new_calibration: partial[Calibration] = partial(
        build(config.calibration), run.data.labels.classes, run.task.single_label
    )
    # Building it checks its options before anything is predicted.
    new_calibration()
    return new_calibration


def _write_mean(run: NetworkParts, options: EvaluationOptions, mean: MeanOfModels, judged: _Judged) -> Path:
    """Write the results and the bundle of a mean, say so, and return their folder."""
    content = _describe(run, options, judged.results)
    place = write_mean(mean, options, content, judged.raw_report, judged.calibration)
    fitted = _fitted_for_bundle(options, judged.results, judged.calibration, judged.fit, mean)
    say(write_bundle(run, fitted, place))
    say(f"Wrote evaluation.json and {PREDICTIONS} of the mean of {len(mean.weights)} models to {place}.")
    return place


def _describe(run: NetworkParts, options: EvaluationOptions, results: EvaluationResults) -> dict[str, Any]:
    """Return the results as values of JSON, with the hashes of the code, and print their warnings."""
    # The hash of a training by einthoven 0.1 is not known.
    code_hashes = {
        "trained": None if run.trained is None else run.trained.code,
        "evaluated": identity_tags(run.config)["code.hash"],
    }
    warnings = _warnings(run, results, code_hashes)
    return results_as_json(run, options, results) | {"code": code_hashes, "warnings": warnings}


def _evaluate(
    config: DictConfig, options: EvaluationOptions, other_folds: schema.OtherFolds, lock: FileLock
) -> dict[str, float]:
    """Evaluate, and write the results. The caller holds the folder of the run."""
    run, notes = read_finished(Path(options.run), "run", asdict(other_folds), options.labels)
    require_run(run.folder, run.settings.tracking.uri, notes["run_id"])
    # The task of another package is not known before it is built.
    if run.task.kind is not TaskKind.CLASSES:
        raise UserError(f"run={options.run}: its task={run.task.name} predicts no classes; expected a classifier.")
    check_splits(run, options.fit, options.report)
    new_calibration = _calibration_of(run, config)
    posterior = LaplaceRun(run) if options.laplace else None
    mean = MeanOfModels(run, options) if options.mean_with else None
    predict: Predict = partial(run.evaluate, precision="fp32")
    if posterior is not None:
        predict = posterior.evaluate
    if mean is not None:
        predict = mean.evaluate
    prior_precision = posterior.posterior.prior_precision if posterior else None
    judged = _judge(run, options, new_calibration, predict, prior_precision)
    results = judged.results
    show_results(run, options, results)

    # Write the files of the run.
    if mean is not None:
        # A mean has no run of its own in MLflow.
        place = _write_mean(run, options, mean, judged)
        if (place / BUNDLE).exists():
            say_next(bundle_commands(place, example_record(run)))
        return results.metrics
    content = _describe(run, options, results)
    place = _place_of_results(run, options)
    write_text(place / "evaluation.json", json.dumps(content, indent=2) + "\n")
    write_text(place / "model_card.md", model_card_of(run, options, content, notes))
    bundle_message = (
        "There is no bundle of this evaluation: with laplace=true, many sets of weights answer, and a bundle holds one."
    )
    if posterior is None:
        write_ancestry(run.folder, run.ancestry.fitted_on(run.data.digests(options.fit)))
        bundle_message = write_bundle(run, _fitted_for_bundle(options, results, judged.calibration, judged.fit), place)

    with closing(_open_recorder(run, notes["run_id"], lock)) as recorder:
        recorder.tags(
            {
                "evaluate.code.hash": str(content["code"]["evaluated"]),
                "evaluate.data.fingerprint": run.data.store.fingerprint[:12],
                "evaluate.warnings": " ".join(f"{warning}." for warning in content["warnings"]) or "none",
            }
        )
        log_results(recorder, run, options.report, results, judged.report, judged.raw_report.p, place)
        write_gallery(run, recorder)
    say(bundle_message)
    store = without_password(recorder.uri)
    say(f"Wrote evaluation.json and model_card.md to {place} and to run {recorder.run_id} in {store}.")
    if (place / BUNDLE).exists():
        say_next(bundle_commands(place, example_record(run)))
    return results.metrics


def _place_of_results(run: NetworkParts, options: EvaluationOptions) -> Path:
    """Return the folder for the files of an evaluation.

    The folder of a run holds the evaluation of its bundle. A label set that the run did not report has its own folder,
    and so has a posterior of the weights.
    """
    parts = []
    if run.trained is None or run.task.labels != run.trained.options.get("task.labels"):
        parts.append(run.task.labels)
    if options.laplace:
        parts.append(LAPLACE)
    if not parts:
        return run.folder
    place: Path = run.folder / READINGS / "_".join(parts)
    place.mkdir(parents=True, exist_ok=True)
    return place


def check_splits(run: NetworkParts, fitted: str, reported: str) -> None:
    """Refuse a split without records, and two splits that share a fold or a patient."""
    for split in (fitted, reported):
        if split not in run.data.splits:
            raise UserError(
                f"data.folds.{split}: no labelled record there; give other folds as data.folds.{split}=[…]."
            )
    folds = asdict(run.settings.folds)
    check_disjoint(folds[fitted], folds[reported], "fold")
    check_disjoint(run.data.patients(fitted), run.data.patients(reported), "patient")


def _open_recorder(run: NetworkParts, run_id: str, lock: FileLock) -> Recorder:
    """Open the MLflow run of a finished run again."""
    tracking = run.settings.tracking
    return Recorder(
        tracking.uri,
        tracking.experiment,
        tracking.run_name,
        folder=run.folder,
        tags={},
        run_id=run_id,
        patience=tracking.patience,
        offline=tracking.offline,
        lock=lock,
    )


def _warnings(run: NetworkParts, results: EvaluationResults, code_hashes: dict[str, str | None]) -> list[str]:
    """Return, and print, what a reader must know about how the results were computed: one sentence each."""
    warnings = list(run.data.notes)
    not_used = explain_not_used(results.calibration)
    if not_used is not None:
        warn(f"{not_used}.")
        warnings.append(not_used)
    trained = code_hashes["trained"]
    evaluated = code_hashes["evaluated"]
    if trained not in (None, evaluated):
        changed = (
            f"the code has changed since this run was trained (code.hash was {trained} and is {evaluated}): the "
            "figures are those of the trained weights with the code of now"
        )
        warn(f"run={run.folder}: {changed}.")
        warnings.append(changed)
    return warnings


def _fitted_for_bundle(
    options: EvaluationOptions,
    results: EvaluationResults,
    calibration: Calibration,
    fit: Predictions,
    mean: MeanOfModels | None = None,
) -> Fitted:
    """Return what the evaluation adds to the bundle of the run, or of its mean with other models."""
    points = {}
    for name, of_class in results.points.items():
        points[name] = {
            str(rule): as_json({"threshold": point.threshold, **point.judged}) for rule, point in of_class.items()
        }
    metrics = {name: results.metrics[name] for name in ("macro_auroc", "nll/after", "brier/after", "ece/after")}
    metrics["macro_auroc_low"] = results.interval.low
    metrics["macro_auroc_high"] = results.interval.high
    return Fitted(calibration, options.fit, fit.y, fit.p, points, as_json(metrics), mean)
