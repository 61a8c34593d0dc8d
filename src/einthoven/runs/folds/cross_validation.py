"""`einthoven train folds=cv`: hold out each training fold once, and pool the predictions."""

from __future__ import annotations

import os
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from einthoven.command_line import command
from einthoven.contracts import TaskKind
from einthoven.data.identity import DataIdentity, compare
from einthoven.data.record_names import names_in
from einthoven.errors import UserError
from einthoven.predict.model_folder import BUNDLE, FOLD
from einthoven.report.markdown import markdown_table
from einthoven.runs.config.identity import identity_tags
from einthoven.runs.config.next_commands import report_command, resume_command, ui_command
from einthoven.runs.config.options import write_config
from einthoven.runs.config.settings import Settings, check_settings, is_feature_model
from einthoven.runs.data.run_data import Data
from einthoven.runs.feature_run import FeatureRun
from einthoven.runs.folder.trained_data import is_started, read_trained_data
from einthoven.runs.folder.trained_run import check_safe
from einthoven.runs.folds.out_of_fold import (
    OUT_OF_FOLD,
    HeldOut,
    class_table,
    pool,
    predict_held_out,
    prediction_columns,
    spread_over_folds,
    write_predictions,
)
from einthoven.runs.folds.training_margins import (
    TRAINING_LOG_ODDS,
    TrainingLogOdds,
    training_log_odds,
    write_training_log_odds,
)
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.resume import assemble_begun, describe_position
from einthoven.runs.run import Run
from einthoven.runs.session import training_session
from einthoven.runs.start import assemble_run, claim_folder, open_recorder, write_start
from einthoven.terminal.display import console, results_table, say, say_first, say_next
from einthoven.tracking import run_folder
from einthoven.tracking.addresses import ids_file, read_ids
from einthoven.tracking.closing import closing, error_tag
from einthoven.tracking.concluded import CONCLUDED, is_concluded
from einthoven.tracking.parent_run import PARENT
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import without_password

if TYPE_CHECKING:
    from filelock import FileLock


def cross_validate(config: DictConfig, folder: Path, overrides: list[str]) -> dict[str, float]:
    """Train once for each fold on the other folds, and return the metrics of the pooled out-of-fold predictions.

    Each record is evaluated by the model that has not seen it. The metrics ``val/…`` are logged to the parent run.
    """
    settings = check_settings(config)
    _check_options(settings)
    with claim_folder(folder) as (folder, lock):
        # With this file, the folder can be resumed.
        write_config(config, folder)
        return _train_folds(config, settings, folder, overrides, lock)


def resume_folds(config: DictConfig, folder: Path) -> dict[str, float]:
    """Continue a cross-validation that was interrupted, whose options `trained_run.open_started` has read.

    It goes on at the fold and at the step where it was. It is refused if its records, its configuration or its code
    have changed.
    """
    settings = check_settings(config)
    _check_options(settings)
    # The folders of the folds can come from a stranger, too.
    for fold_folder in sorted(folder.glob(f"{FOLD}*")):
        check_safe(fold_folder)
    with run_folder.writing(folder) as lock:
        if is_concluded(folder):
            raise UserError(f"resume={folder}: this cross-validation is complete; there is nothing to resume.")
        return _train_folds(config, settings, folder, _earlier_overrides(folder), lock)


def _earlier_overrides(folder: Path) -> list[str]:
    """Return the options of the command line that started a cross-validation."""
    for fold_folder in sorted(folder.glob(f"{FOLD}*")):
        if is_started(fold_folder):
            return list(read_trained_data(fold_folder, "resume", takes_added=False).overrides)
    return []


def _check_options(settings: Settings) -> None:
    """Refuse options that do not suit a cross-validation."""
    folds = settings.folds
    if len(folds.train) < 2:
        raise UserError(f"data.folds.train={folds.train}: cross-validation needs two folds or more.")
    if folds.val or folds.test:
        raise UserError(
            "folds=cv holds out each fold of data.folds.train in turn: data.folds.val and .test stay empty."
        )
    if settings.trainer.select == "best" or settings.trainer.patience is not None:
        raise UserError(
            "folds=cv judges by the held-out fold, so it may not select on it: use trainer.select=last, patience=null."
        )
    if settings.tracking.offline:
        raise UserError("tracking.offline=true: folds=cv compares runs in the store; expected false.")


def _train_folds(
    config: DictConfig, settings: Settings, folder: Path, overrides: list[str], lock: FileLock
) -> dict[str, float]:
    """Train and evaluate all folds that are not complete, and pool the predictions. The caller holds the folder."""
    folds = settings.folds.train
    parent: Recorder | None = None
    first_identity: DataIdentity | None = None
    held_out: list[HeldOut] = []
    trained: list[TrainingLogOdds | None] = []
    try:
        for fold in folds:
            fold_folder = folder / f"{FOLD}{fold}"
            fold_config = hold_out(config, folds, fold)
            with run_folder.writing(fold_folder) as fold_lock:
                run, notes = _assemble_fold(fold_config, fold_folder, overrides)
                if first_identity is None:
                    first_identity = run.data.identity
                    # The training records of this fold are held out later.
                    run.refuse_seen({"a held-out fold": "train"})
                _refuse_changed(first_identity, run.data)
                if "val" not in run.data.splits:
                    raise UserError(
                        f"folds=cv: fold {fold} has no records to judge by, or no class that holds for some of them "
                        "and not for others; leave it out of data.folds.train."
                    )
                # The parent run is opened when the first run is known to be trainable.
                if parent is None:
                    parent = _open_parent(run, config, folder, overrides, lock)
                say_first(f"Fold {fold} is held out: the model is trained on the other folds, and judged on this one.")
                _train_fold(run, notes, f"{settings.tracking.run_name}-fold{fold}", overrides, parent, fold_lock)
            held_out.append(predict_held_out(run, run.evaluate("val"), fold))
            trained.append(training_log_odds(run))
    except BaseException as error:
        is_interrupted = isinstance(error, KeyboardInterrupt)
        if is_interrupted:
            say(f"The cross-validation is interrupted. This continues it: {resume_command(folder, settings.tracking)}")
        if parent is not None:
            parent.tags({} if is_interrupted else error_tag(error))
            parent.finish("KILLED" if is_interrupted else "FAILED")
        raise
    assert parent is not None
    with closing(parent):
        if write_training_log_odds(folder, trained, run.data.labels.classes):
            say(f"Wrote the mean log-odds of the training records to {folder / TRAINING_LOG_ODDS}.")
        metrics = _log_pooled(run, parent, folder, held_out)
        parent.tags({CONCLUDED: "true"})
    return metrics


def _say_bundles(folder: Path) -> None:
    """Say where the bundles of the folds are, if there are some. Their calibration would need test records."""
    bundles = sorted(folder.glob(f"{FOLD}*/{BUNDLE}"))
    if bundles:
        say(f"The model of each fold is ready to predict, such as {bundles[0]}. It is not calibrated.")


def _open_parent(run: Run, config: DictConfig, folder: Path, overrides: list[str], lock: FileLock) -> Recorder:
    """Open the parent run: a new one, or that of an earlier start."""
    is_begun = ids_file(folder).exists()
    parent = open_recorder(
        run,
        f"cv {run.settings.tracking.run_name}",
        overrides,
        parent=os.environ.get(PARENT),
        folder=folder,
        run_id=read_ids(folder)["run_id"] if is_begun else None,
        lock=lock,
    )
    parent.tags(identity_tags(config))
    return parent


def _assemble_fold(config: DictConfig, folder: Path, overrides: list[str]) -> tuple[Run, dict[str, Any]]:
    """Assemble the run of a fold, at its last checkpoint or a new one. Return also the notes of the checkpoint."""
    if is_started(folder) and not is_feature_model(config):
        return assemble_begun(folder, config)
    run = assemble_run(config, folder)
    if is_started(folder):
        trained = read_trained_data(folder, "resume", takes_added=False)
        if trained.data is not None:
            _refuse_changed(trained.data, run.data)
    write_start(run, overrides)
    return run, {}


def _train_fold(
    run: Run, notes: dict[str, Any], name: str, overrides: list[str], parent: Recorder, lock: FileLock
) -> None:
    """Train the run of a fold from its checkpoint on, and conclude it. A run that is complete is not trained."""
    folder = run.folder
    is_begun = ids_file(folder).exists()
    if is_concluded(folder):
        # The model of a network is in its checkpoint. A feature model is fitted again, which gives the same model.
        if isinstance(run, FeatureRun):
            run.fit()
        elif isinstance(run, NetworkRun):
            run.use_reported_weights()
        return
    recorder = open_recorder(
        run,
        name,
        overrides,
        parent=parent.run_id,
        run_id=read_ids(folder)["run_id"] if is_begun else None,
        position=notes.get("recorder", 0),
        lock=lock,
    )
    if notes:
        say(describe_position(run))
    with closing(recorder), training_session(run, recorder, is_fold=True) as session:
        session.fit()


def hold_out(config: DictConfig, folds: list[int], fold: int) -> DictConfig:
    """Return the configuration of the run that is evaluated on one fold and trained on the others."""
    from omegaconf import OmegaConf

    train = [other for other in folds if other != fold]
    split = {"train": train, "val": [fold], "test": [], "cross_validate": False}
    # What is measured may depend on cross_validate, which is false in the run of a fold.
    diagnostics = OmegaConf.to_container(config.diagnostics, resolve=True)
    held_out = OmegaConf.merge(config, {"data": {"folds": split}, "diagnostics": diagnostics})
    assert isinstance(held_out, DictConfig)
    return held_out


def _refuse_changed(first: DataIdentity, now: Data) -> None:
    """Refuse to pool folds of data that changed while the folds were trained."""
    difference = compare(first, now.identity, names_in(now.store.table))
    if difference.is_different:
        raise UserError(f"folds=cv: the data have changed since the first fold was trained: {difference}.")


def _log_pooled(run: Run, parent: Recorder, folder: Path, held_out: list[HeldOut]) -> dict[str, float]:
    """Write and log the pooled predictions and their metrics, print all results, and return the metrics."""
    pooled = pool(held_out)
    predictions = prediction_columns(run, pooled)
    write_predictions(folder, predictions)

    # Metrics of the pooled predictions, and their spread over the folds.
    monitor = run.task.monitor
    intervals = run.task.intervals(pooled.y, pooled.p, pooled.patients, run.settings.seed)
    task_metrics = run.task.metrics(pooled.y, pooled.p, run.data.labels.classes)
    metrics = {f"val/{name}": value for name, value in task_metrics.items()}
    for name, interval in intervals.items():
        metrics[f"val/{name}_low"] = interval.low
        metrics[f"val/{name}_high"] = interval.high
    spread = spread_over_folds(held_out)
    if monitor in spread:
        metrics[f"val/{monitor}_fold_mean"] = spread[monitor].mean
        metrics[f"val/{monitor}_fold_sd"] = spread[monitor].sd
    parent.log_metrics(0, metrics)

    columns = ["held out", "records", run.task.metric_titles[monitor]]
    cells = []
    for of_fold in held_out:
        value = of_fold.metrics.get(monitor, nan)
        cells.append([f"fold {of_fold.fold}", str(len(of_fold.ecg_ids)), f"{value:.4f}"])
    if monitor in spread:
        cells.append(["folds, mean ± sd", "", str(spread[monitor])])
    cells.append(["pooled", str(len(pooled.y)), f"{metrics[f'val/{monitor}']:.4f} {intervals[monitor]}"])
    say(f"The cross-validation is run {parent.run_id} in {without_password(parent.uri)}.")
    # Only the threads of the recorder write to the run: of two writers of one new tag, MLflow refuses the second.
    parent.note(markdown_table(columns, cells))
    parent.table(dict(zip(columns, map(list, zip(*cells, strict=True)), strict=True)), "results.json")
    if run.settings.tracking.artifacts:
        parent.table(predictions, "predictions/val.parquet")
    console.print(results_table("Results on the held-out folds, with 95 % intervals", columns, cells))
    by_class = class_table(run, pooled, spread)
    if by_class is not None:
        console.print(by_class)
    say(f"Wrote the prediction of each record by the model that has not seen it to {folder / OUT_OF_FOLD}.")
    _say_bundles(folder)
    commands = [
        (ui_command(parent.uri), "look at the cross-validation in MLflow"),
        (report_command(parent.run_id, parent.uri), "write one page that compares its folds"),
    ]
    if run.task.kind is TaskKind.CLASSES:
        commands.append((command("doctor", "labels", str(folder)), "find labels that are probably wrong"))
    say_next(commands)
    return metrics
