"""`einthoven train folds=cv`: each training fold is held out once, the predictions are pooled."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig

from einthoven.data.identity import DataIdentity, compare
from einthoven.errors import UserError
from einthoven.report.sweep_note import markdown
from einthoven.runs import assemble
from einthoven.runs.identity import identity
from einthoven.runs.train_one import assembled, claimed, execute, open_recorder
from einthoven.runs.trained_data import write_trained_data
from einthoven.terminal.display import console, results_table, say
from einthoven.tracking import run_folder
from einthoven.tracking.recorder import Recorder, closing, error_tag
from einthoven.tracking.server import client, without_password
from einthoven.tracking.sweep import PARENT, put_note, put_table

if TYPE_CHECKING:
    from filelock import FileLock


def _held_out(config: DictConfig, folds: list[int], fold: int) -> DictConfig:
    """Configuration of the run that is judged by one fold and trained on the others."""
    from omegaconf import OmegaConf

    split = {"train": [f for f in folds if f != fold], "val": [fold], "test": [], "cross_validate": False}
    held_out = OmegaConf.merge(config, {"data": {"folds": split}})
    assert isinstance(held_out, DictConfig)
    return held_out


def cross_validate(config: DictConfig, folder: Path, overrides: list[str]) -> dict[str, float]:
    """Train once a fold on the other folds, and evaluate all records by the model that has not seen them.

    Returns
    -------
    dict of str to float
        ``val/…`` metrics of the pooled out-of-fold predictions; they are logged to the parent run.

    Raises
    ------
    UserError
        If fewer than two folds are given, or the weights would be selected on the fold they are judged by.
    """
    checked = assemble.settings(config)
    folds = checked.folds.train
    if len(folds) < 2:
        raise UserError(f"data.folds.train={folds}: cross-validation needs two folds or more.")
    if checked.folds.val or checked.folds.test:
        raise UserError(
            "folds=cv holds out each fold of data.folds.train in turn: data.folds.val and .test stay empty."
        )
    if checked.trainer.select == "best" or checked.trainer.patience is not None:
        raise UserError(
            "folds=cv judges by the held-out fold, so it may not select on it: use trainer.select=last, patience=null."
        )
    if checked.tracking.offline:
        raise UserError("tracking.offline=true: folds=cv compares runs in the store; expected false.")
    with claimed(folder) as (folder, lock):
        return _each_held_out(config, folder, overrides, lock)


def _refuse_changed(first: DataIdentity, now: DataIdentity) -> None:
    """Refuse to pool folds of data that have changed while they were trained one after the other."""
    difference = compare(first, now)
    if difference.any:
        raise UserError(f"folds=cv: the data have changed since the first fold was trained: {difference}.")


def _each_held_out(config: DictConfig, folder: Path, overrides: list[str], lock: FileLock) -> dict[str, float]:
    """Train, evaluate and pool; the caller holds the folder."""
    checked = assemble.settings(config)
    folds, name = checked.folds.train, checked.tracking.run_name
    parent: Recorder | None = None
    first: DataIdentity | None = None
    labels, probabilities, patients, cells = [], [], [], []
    try:
        for fold in folds:
            with run_folder.writing(folder / f"fold-{fold}") as own:
                run = assembled(_held_out(config, folds, fold), folder / f"fold-{fold}")
                if first is None:
                    first = run.data.identity
                _refuse_changed(first, run.data.identity)
                if "val" not in run.data.splits:
                    raise UserError(
                        f"folds=cv: fold {fold} has no records to judge by, or no class that holds for some of them "
                        "and not for others; leave it out of data.folds.train."
                    )
                run.write_config()
                write_trained_data(run)
                if parent is None:
                    above = os.environ.get(PARENT)
                    parent = open_recorder(run, f"cv {name}", overrides, parent=above, folder=folder, lock=lock)
                    parent.tags(identity(config))  # of all folds
                console.print(f"held out: fold {fold}")
                recorder = open_recorder(run, f"{name}-fold{fold}", overrides, parent=parent.run_id, lock=own)
                with closing(recorder):
                    metrics = execute(run, recorder)
            found = run.evaluate("val")
            labels.append(found.y)
            probabilities.append(found.p)
            patients.append(run.data.patients("val"))
            cells.append([f"fold {fold}", str(len(found.y)), f"{metrics.get(f'val/{run.task.monitor}', math.nan):.4f}"])
    except BaseException as error:
        if parent is not None:
            parent.tags(error_tag(error))
            parent.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    assert parent is not None
    with closing(parent):
        y, p = np.concatenate(labels), np.concatenate(probabilities)
        intervals = run.task.intervals(y, p, np.concatenate(patients), checked.seed)
        pooled = {f"val/{k}": v for k, v in run.task.metrics(y, p, run.data.labels.classes).items()}
        pooled |= {f"val/{k}_{end}": getattr(i, end) for k, i in intervals.items() for end in ("low", "high")}
        parent.log_metrics(0, pooled)
        monitor = run.task.monitor
        cells.append(["pooled", str(len(y)), f"{pooled[f'val/{monitor}']:.4f} {intervals[monitor]}"])
        say(f"run {parent.run_id} in {without_password(parent.uri)}")
        columns, tracking = ["held out", "records", run.task.shown[monitor]], client(parent.uri)
        put_note(tracking, parent.run_id, markdown(columns, cells))
        put_table(tracking, parent.run_id, "results.json", columns, cells)
        console.print(results_table("", columns, cells))
    return pooled
