"""The end of a run: metrics with intervals, pictures, checkpoints and the exported model, all logged to MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from einthoven.atomic import temporary_folder
from einthoven.build import build
from einthoven.contracts import Batch, Predictions, TaskKind
from einthoven.diagnostics.probes import Trained
from einthoven.functional.pca import Float64
from einthoven.predict.delineator import FOLDER as DELINEATOR
from einthoven.predict.export import Pipeline, write_program
from einthoven.predict.model_folder import BUNDLE
from einthoven.runs.folder.trained_data import write_ancestry
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.network.validation import Validation
from einthoven.runs.results.bundle import write_bundle
from einthoven.runs.results.calibrate import calibrate
from einthoven.runs.results.figures import Draw, pictures, principal_components, record_pictures
from einthoven.runs.results.landscape import loss_landscape
from einthoven.runs.results.plain_files import write_predictions
from einthoven.runs.run import RunParts
from einthoven.terminal.display import say
from einthoven.tracking.recorder import Recorder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _pipeline(run: NetworkParts) -> Pipeline:
    """Return what a run exports: the model with its windows and its activation, as one module on the CPU."""
    model = deepcopy(run.model).cpu()
    aggregate = run.settings.trainer.aggregate
    return Pipeline(model, run.task.activation, run.window, run.stride, aggregate, run.task.readout).eval()


def conclude(
    run: NetworkParts, recorder: Recorder, validation: Validation, *, is_fold: bool
) -> tuple[dict[str, float], dict[str, Predictions]]:
    """Evaluate the selected weights of a network, and log what belongs on the run page.

    Return the final metrics, ``val/…`` and ``test/…``, and the predictions of the records of each split. The parameters
    are those of `Run.conclude`.
    """
    if run.settings.trainer.select == "best" and run.position.best_epoch:
        run.load_best_weights()

    # Metrics. The last epoch may have made the predictions of the validation split.
    row_predictions = {}
    for split in ("val", "test"):
        if split in run.data.splits:
            known = validation.last_predictions() if split == "val" else None
            row_predictions[split] = known or run.predict(split, "fp32")
    predictions = by_record(run, row_predictions)
    metrics = final_metrics(run, predictions)
    for split, of_split in predictions.items():
        metrics |= run.compare_with_teachers(split, of_split)
    _, shares = principal_components(run)
    log_final(recorder, run.position.step + 1, metrics | {"watch/pca/explained": float(shares.sum())})
    recorder.flush(everything=True)

    # Measurements of the trained model, and the bundle.
    _analyse(run, recorder)
    histograms = validation.arrays()
    if histograms:
        recorder.arrays(histograms, "diagnostics.npz")
    landscape = loss_landscape(run, validation.snapshots) if run.settings.diagnostics.landscape else {}
    if landscape:
        recorder.arrays(landscape, "landscape.npz")
    fitted = calibrate(run, predictions, metrics)
    bundle_message = write_bundle(run, fitted)
    if not is_fold:
        say(bundle_message)
    if fitted is not None:
        write_ancestry(run.folder, run.ancestry.fitted_on(run.data.digests(fitted.split)))
    tables = {split: prediction_table(run, split, of_rows) for split, of_rows in row_predictions.items()}
    write_predictions(run.folder, tables)
    if not run.settings.tracking.artifacts:
        return metrics, predictions

    # Pictures. The first ones are written while the others are drawn, and all while the files and the model are logged.
    training_pictures = pictures(run, recorder.history, predictions, landscape, histograms)
    pictures_of_records = record_pictures(run, row_predictions)
    with recorder.figures(_draw(training_pictures)), recorder.figures(_draw(pictures_of_records)):
        _log_files(run, recorder, tables, shares)
    return metrics, predictions


def _draw(draws: Mapping[str, Draw]) -> dict[str, Figure]:
    """Draw pictures by their names."""
    return {name: draw() for name, draw in draws.items()}


def _log_files(
    run: NetworkParts, recorder: Recorder, tables: Mapping[str, Mapping[str, list[object]]], shares: Float64
) -> None:
    """Log the table of the predictions of each split, the checkpoints, the bundle and the exported model.

    `shares` are those of the principal components.
    """
    components = list(range(1, len(shares) + 1))
    recorder.table({"component": components, "share_of_variance": shares.tolist()}, "pca/explained_variance.json")
    for split, table in tables.items():
        recorder.table(table, f"predictions/{split}.parquet")
    for name, epoch in (("best", run.position.best_epoch), ("last", run.position.epoch)):
        file = run.checkpoints / f"{name}.safetensors"
        if file.exists():
            recorder.file(file, "checkpoints")
            recorder.checkpoint(name, f"checkpoints/{file.name}", epoch * run.steps_per_epoch)
    for folder in (BUNDLE, DELINEATOR):
        for file in sorted((run.folder / folder).glob("*")):
            recorder.file(file, folder)
    if run.task.kind is not TaskKind.PRETEXT:
        _log_program(run, recorder)


def _log_program(run: NetworkParts, recorder: Recorder) -> None:
    """Export the model, and log it as an MLflow model."""
    leads = tuple(run.data.store.leads)
    samples = run.data.splits["train"].samples
    with temporary_folder() as folder:
        program = folder / "model.pt2"
        write_program(_pipeline(run), len(leads), samples, program)
        recorder.model(
            program,
            samples,
            run.data.labels.classes,
            leads,
            run.data.store.fs,
            step=_steps_of_weights(run),
            runs_along_time=run.task.kind is TaskKind.MASKS,
            register=run.settings.tracking.register,
            alias=run.settings.tracking.alias,
        )


def _steps_of_weights(run: NetworkParts) -> int:
    """Return the number of steps that the selected weights were trained for."""
    is_best = run.settings.trainer.select == "best" and run.position.best_epoch
    return run.position.best_epoch * run.steps_per_epoch if is_best else run.position.step


def log_final(recorder: Recorder, step: int, metrics: Mapping[str, float]) -> None:
    """Log what is measured at the end of a run.

    A metric that has a curve gets its last point at `step`, unless the curve ends with this value: then the weights of
    the last epoch are those of the run. A metric that is measured once is logged at step 0: MLflow draws it as a bar,
    and otherwise as a line with a single dot. The end of a run may be repeated after a kill, so that points at both
    steps do not make a curve.
    """
    recorder.flush(everything=True)
    single = {}
    last_points = {}
    for name, value in metrics.items():
        steps, values = recorder.history.get(name, ([], []))
        if not any(0 < earlier < step for earlier in steps):
            single[name] = value
        elif not np.array_equal(values[-1], value, equal_nan=True):
            last_points[name] = value
    recorder.log_metrics(0, single)
    recorder.log_metrics(step, last_points)


def by_record(run: RunParts, row_predictions: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Turn predictions of the rows of each split into predictions of its records."""
    rule = run.settings.trainer.aggregate
    return {split: run.data.by_record(split, of_rows, rule) for split, of_rows in row_predictions.items()}


def _analyse(run: NetworkParts, recorder: Recorder) -> None:
    """Run the analysis of the trained model, if one is chosen, and log its arrays."""
    if "analysis" in run.config:
        arrays = build(run.config.analysis)(_trained_model(run))
        recorder.arrays({name: value.detach().cpu().numpy() for name, value in arrays.items()})


def _trained_model(run: NetworkParts) -> Trained:
    """Return the parts of a run that an analysis may use."""
    store = run.data.store
    splits = run.data.splits

    def batch(name: str, rows: Tensor) -> Batch:
        rows = rows.to(run.device)
        is_valid = torch.ones(len(rows), dtype=torch.bool, device=run.device)
        return Batch(splits[name].take(rows, run.window), splits[name].labels[rows], rows, is_valid)

    records = {name: len(split) for name, split in splits.items()}
    return Trained(run.model.eval(), run.task, records, batch, run.data.labels.classes, store.leads, store.fs)


def final_metrics(run: RunParts, predictions: Mapping[str, Predictions]) -> dict[str, float]:
    """Return the metrics of each split, ``val/…`` and ``test/…``, some with the ends of their intervals."""
    metrics: dict[str, float] = {}
    for split, of_split in predictions.items():
        y, p = of_split.y, of_split.p
        for name, value in run.task.metrics(y, p, run.data.labels.classes).items():
            metrics[f"{split}/{name}"] = value
        for name, interval in run.task.intervals(y, p, run.data.patients(split), run.settings.seed).items():
            metrics[f"{split}/{name}_low"] = interval.low
            metrics[f"{split}/{name}_high"] = interval.high
    return metrics


def prediction_table(run: RunParts, split: str, row_predictions: Predictions) -> dict[str, list[object]]:
    """Return the columns of a table with one line for each row of a split: record, patient, labels and predictions.

    Patients are numbered within the split. The table tells which records are from one person, but not who it is.
    """
    record_ids, start_s = run.data.row_origins(split)
    rows = run.data.rows[split]
    _, patient_numbers = np.unique(run.data.labels.patients[rows], return_inverse=True)
    columns: dict[str, list[object]] = {
        "ecg_id": run.data.labels.ecg_ids[rows].tolist(),
        "record_id": record_ids.tolist(),
        "patient": patient_numbers.tolist(),
        "start_s": start_s.tolist(),
    }
    task_columns: dict[str, list[object]] = run.task.table(
        row_predictions.y, row_predictions.p, run.data.labels.classes
    )
    return columns | task_columns
