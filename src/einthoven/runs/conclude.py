"""The end of a run: metrics with intervals, pictures, checkpoints and the exported model, all in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch

from einthoven.build import build
from einthoven.contracts import Batch, Predictions
from einthoven.diagnostics.probes import Trained
from einthoven.predict.export import Pipeline, write_program
from einthoven.runs.bundle import FOLDER as BUNDLE
from einthoven.runs.bundle import write_bundle
from einthoven.runs.figures import pictures, principal_components
from einthoven.runs.landscape import landscape
from einthoven.runs.network_run import Run
from einthoven.terminal.display import say

if TYPE_CHECKING:
    from torch import Tensor

    from einthoven.runs.feature_run import FittedRun
    from einthoven.tracking.recorder import Recorder


def pipeline(run: Run) -> Pipeline:
    """What a run reports, as one module on the CPU."""
    model, aggregate = deepcopy(run.model).cpu(), run.settings.trainer.aggregate
    return Pipeline(model, run.task.activation, run.window, run.stride, aggregate, run.task.readout).eval()


def conclude(run: Run, recorder: Recorder) -> tuple[dict[str, float], dict[str, Predictions]]:
    """Evaluate the selected weights, and log what a reader of the run wants to see.

    Returns
    -------
    metrics : dict of str to float
        The final metrics, ``val/…`` and ``test/…``.
    found : dict of str to Predictions
        What was found in the records of each split.
    """
    if run.settings.trainer.select == "best" and run.position.best_epoch:
        run.load_weights("best")
    by_window = {split: run.predict(split, "fp32") for split in ("val", "test") if split in run.data.splits}
    found = by_record(run, by_window)
    metrics = final_metrics(run, found)
    pca = principal_components(run)
    shares = pca.explained_variance_ratio_
    record_final(recorder, run.position.step + 1, metrics | {"watch/pca/explained": float(shares.sum())})
    recorder.flush(everything=True)
    _probe(run, recorder)
    if kept := run.validation.arrays():
        recorder.arrays(kept, "diagnostics.npz")
    around = landscape(run) if run.settings.diagnostics.landscape else {}
    if around:
        recorder.arrays(around, "landscape.npz")
    say(write_bundle(run))
    if not run.settings.tracking.artifacts:
        return metrics, found
    numbers = list(range(1, len(shares) + 1))
    recorder.table({"component": numbers, "share_of_variance": shares.tolist()}, "pca/explained_variance.json")
    for name, draw in pictures(run, recorder.history, found, by_window, around).items():
        recorder.figure(draw(), name)
    for split, evaluation in by_window.items():
        recorder.table(predictions(run, split, evaluation), f"predictions/{split}.json")
    for name in ("best", "last"):
        file = run.checkpoints / f"{name}.safetensors"
        if file.exists():
            recorder.file(file, "checkpoints")
    for file in sorted((run.folder / BUNDLE).glob("*")):
        recorder.file(file, BUNDLE)
    leads, samples = tuple(run.data.store.leads), run.data.splits["train"].samples
    with TemporaryDirectory() as place:
        program = Path(place) / "model.pt2"
        write_program(pipeline(run), len(leads), samples, program)
        recorder.model(
            program,
            samples,
            run.data.labels.classes,
            leads,
            run.data.store.fs,
            register=run.settings.tracking.register,
            alias=run.settings.tracking.alias,
        )
    return metrics, found


def record_final(recorder: Recorder, step: int, metrics: Mapping[str, float]) -> None:
    """Record what is measured at the end of a run.

    A metric that has a curve gets its last point, at `step`. A value that is measured once stands at step 0: MLflow
    draws a bar of it, and otherwise a line with a single dot.
    """
    recorder.flush(everything=True)
    recorder.log_metrics(0, {name: value for name, value in metrics.items() if name not in recorder.history})
    recorder.log_metrics(step, {name: value for name, value in metrics.items() if name in recorder.history})


def by_record(run: Run | FittedRun, by_window: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Of each split, what was found in the windows of a record as one."""
    aggregate = run.settings.trainer.aggregate
    return {split: run.data.by_record(split, found, aggregate) for split, found in by_window.items()}


def _probe(run: Run, recorder: Recorder) -> None:
    """Measure the trained model, if a probe is chosen, and log what it finds as arrays."""
    if "probe" in run.config:
        found = build(run.config.probe)(trained(run))
        recorder.arrays({name: value.detach().cpu().numpy() for name, value in found.items()})


def trained(run: Run) -> Trained:
    """What a probe may look at of a run."""
    store, splits = run.data.store, run.data.splits

    def batch(name: str, rows: Tensor) -> Batch:
        split, rows = splits[name], rows.to(run.device)
        valid = torch.ones(len(rows), dtype=torch.bool, device=run.device)
        return Batch(split.take(rows, run.window), split.labels[rows], rows, valid)

    records = {name: len(split) for name, split in splits.items()}
    return Trained(run.model.eval(), run.task, records, batch, run.data.labels.classes, store.leads, store.fs)


def final_metrics(run: Run | FittedRun, found: Mapping[str, Predictions]) -> dict[str, float]:
    """Metrics of each split under its name, some with their intervals."""
    metrics: dict[str, float] = {}
    for split, evaluation in found.items():
        metrics |= {
            f"{split}/{k}": v for k, v in run.task.metrics(evaluation.y, evaluation.p, run.data.labels.classes).items()
        }
        intervals = run.task.intervals(evaluation.y, evaluation.p, run.data.patients(split), run.settings.seed)
        metrics |= {f"{split}/{k}_{end}": getattr(i, end) for k, i in intervals.items() for end in ("low", "high")}
    return metrics


def predictions(run: Run | FittedRun, split: str, found: Predictions) -> dict[str, list[object]]:
    """Columns of a table with a row per window: its record and patient, where it begins, what was true and predicted.

    Patients are numbered within the split: the table says which records are of one person, and not of whom.
    """
    record, start = run.data.windows(split)
    rows = run.data.rows[split]
    columns: dict[str, list[object]] = {
        "ecg_id": run.data.labels.ecg_ids[rows].tolist(),
        "record_id": record.tolist(),
        "patient": np.unique(run.data.labels.patients[rows], return_inverse=True)[1].tolist(),
        "start_s": start.tolist(),
    }
    columns |= run.task.table(found.y, found.p, run.data.labels.classes)
    return columns
