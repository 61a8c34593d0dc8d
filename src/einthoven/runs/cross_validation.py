"""`einthoven train folds=cv`: hold out each training fold once, and pool the predictions."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig

from einthoven.contracts import Predictions
from einthoven.data.identity import DataIdentity, compare
from einthoven.errors import UserError
from einthoven.predict.model_folder import FOLD
from einthoven.report.sweep_note import markdown
from einthoven.runs.identity import identity_tags
from einthoven.runs.run import Run
from einthoven.runs.session import training_session
from einthoven.runs.settings import Settings, check_settings
from einthoven.runs.start import assemble_run, claim_folder, open_recorder, write_start
from einthoven.terminal.display import console, results_table, say
from einthoven.tracking import run_folder
from einthoven.tracking.closing import closing, error_tag
from einthoven.tracking.recorder import NOTE_TAG, Recorder
from einthoven.tracking.server import client, without_password
from einthoven.tracking.sweep import PARENT, put_table

if TYPE_CHECKING:
    from filelock import FileLock


def cross_validate(config: DictConfig, folder: Path, overrides: list[str]) -> dict[str, float]:
    """Train once for each fold on the other folds, and evaluate each record by the model that has not seen it.

    Returns
    -------
    dict of str to float
        ``val/…`` metrics of the pooled out-of-fold predictions. They are logged to the parent run.

    Raises
    ------
    UserError
        If fewer than two folds are given, or weights would be selected on the fold that they are evaluated on.
    """
    settings = check_settings(config)
    _check_options(settings)
    with claim_folder(folder) as (folder, lock):
        return _train_folds(config, settings, folder, overrides, lock)


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
    """Train and evaluate all folds, and pool their predictions. The caller holds the folder."""
    folds = settings.folds.train
    name = settings.tracking.run_name
    parent: Recorder | None = None
    first_identity: DataIdentity | None = None
    predictions: list[Predictions] = []
    patients = []
    cells = []
    try:
        for fold in folds:
            fold_folder = folder / f"{FOLD}{fold}"
            with run_folder.writing(fold_folder) as fold_lock:
                run = assemble_run(_hold_out(config, folds, fold), fold_folder)
                if first_identity is None:
                    first_identity = run.data.identity
                    # The training records of this fold are held out later.
                    run.refuse_seen({"a held-out fold": "train"})
                _refuse_changed(first_identity, run.data.identity)
                if "val" not in run.data.splits:
                    raise UserError(
                        f"folds=cv: fold {fold} has no records to judge by, or no class that holds for some of them "
                        "and not for others; leave it out of data.folds.train."
                    )
                write_start(run)
                # The parent run is opened when the first run is known to be trainable.
                if parent is None:
                    sweep = os.environ.get(PARENT)
                    parent = open_recorder(run, f"cv {name}", overrides, parent=sweep, folder=folder, lock=lock)
                    parent.tags(identity_tags(config))
                console.print(f"held out: fold {fold}")
                recorder = open_recorder(run, f"{name}-fold{fold}", overrides, parent=parent.run_id, lock=fold_lock)
                with closing(recorder), training_session(run, recorder) as session:
                    session.fit()
            predictions.append(run.evaluate("val"))
            patients.append(run.data.patients("val"))
            monitored = session.metrics.get(f"val/{run.task.monitor}", math.nan)
            cells.append([f"fold {fold}", str(len(predictions[-1].y)), f"{monitored:.4f}"])
    except BaseException as error:
        if parent is not None:
            parent.tags(error_tag(error))
            parent.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    assert parent is not None
    y = np.concatenate([of_fold.y for of_fold in predictions])
    p = np.concatenate([of_fold.p for of_fold in predictions])
    with closing(parent):
        return _log_pooled(run, parent, Predictions(y, p), np.concatenate(patients), settings.seed, cells)


def _hold_out(config: DictConfig, folds: list[int], fold: int) -> DictConfig:
    """Return the configuration of the run that is evaluated on one fold and trained on the others."""
    from omegaconf import OmegaConf

    train = [other for other in folds if other != fold]
    split = {"train": train, "val": [fold], "test": [], "cross_validate": False}
    held_out = OmegaConf.merge(config, {"data": {"folds": split}})
    assert isinstance(held_out, DictConfig)
    return held_out


def _refuse_changed(first: DataIdentity, now: DataIdentity) -> None:
    """Refuse to pool folds of data that changed while the folds were trained."""
    difference = compare(first, now)
    if difference.is_different:
        raise UserError(f"folds=cv: the data have changed since the first fold was trained: {difference}.")


def _log_pooled(
    run: Run, parent: Recorder, pooled: Predictions, patients: np.ndarray, seed: int, cells: list[list[str]]
) -> dict[str, float]:
    """Log the metrics of the pooled predictions to the parent run, print all results, and return the metrics."""
    intervals = run.task.intervals(pooled.y, pooled.p, patients, seed)
    task_metrics = run.task.metrics(pooled.y, pooled.p, run.data.labels.classes)
    metrics = {f"val/{name}": value for name, value in task_metrics.items()}
    for name, interval in intervals.items():
        metrics[f"val/{name}_low"] = interval.low
        metrics[f"val/{name}_high"] = interval.high
    parent.log_metrics(0, metrics)

    monitor = run.task.monitor
    columns = ["held out", "records", run.task.metric_titles[monitor]]
    cells = [*cells, ["pooled", str(len(pooled.y)), f"{metrics[f'val/{monitor}']:.4f} {intervals[monitor]}"]]
    say(f"run {parent.run_id} in {without_password(parent.uri)}")
    tracking = client(parent.uri)
    tracking.set_tag(parent.run_id, NOTE_TAG, markdown(columns, cells))
    put_table(tracking, parent.run_id, "results.json", columns, cells)
    console.print(results_table("", columns, cells))
    return metrics
