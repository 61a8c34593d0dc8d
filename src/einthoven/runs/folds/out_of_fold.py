"""The pooled predictions of a cross-validation: each record is predicted by the model that has not seen it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from einthoven.atomic import atomic
from einthoven.contracts import Predictions, TaskKind
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.seeds import Spread, across_seeds
from einthoven.functional.class_names import parts
from einthoven.runs.run import RunParts
from einthoven.terminal.display import results_table

OUT_OF_FOLD = "out_of_fold.parquet"
"""File with the pooled predictions, in the folder of a cross-validation."""


@dataclass(frozen=True)
class HeldOut:
    """The records of one fold, with the predictions of the model that was trained on the other folds."""

    fold: int
    ecg_ids: NDArray[np.int64]
    record_ids: NDArray[np.int64]
    patients: NDArray[np.int64]
    predictions: Predictions
    metrics: dict[str, float]
    """Metrics of this fold alone."""


@dataclass(frozen=True)
class Pooled:
    """The records of all folds, in the order of the folds."""

    fold: NDArray[np.int64]
    ecg_ids: NDArray[np.int64]
    record_ids: NDArray[np.int64]
    patients: NDArray[np.int64]
    y: NDArray[np.float64]
    p: NDArray[np.float64]
    """Expected values and predictions, (n, ...)."""


def predict_held_out(run: RunParts, predictions: Predictions, fold: int) -> HeldOut:
    """Return the predictions of the held-out fold of a run, which is its validation split."""
    records = run.data.table("val")
    return HeldOut(
        fold=fold,
        ecg_ids=records["ecg_id"].to_numpy(np.int64),
        record_ids=records["record_id"].to_numpy(np.int64),
        patients=run.data.patients("val"),
        predictions=predictions,
        metrics=run.task.metrics(predictions.y, predictions.p, run.data.labels.classes),
    )


def pool(folds: Sequence[HeldOut]) -> Pooled:
    """Return the records of all folds together."""
    numbers = [np.full(len(held_out.ecg_ids), held_out.fold, np.int64) for held_out in folds]
    return Pooled(
        fold=np.concatenate(numbers),
        ecg_ids=np.concatenate([held_out.ecg_ids for held_out in folds]),
        record_ids=np.concatenate([held_out.record_ids for held_out in folds]),
        patients=np.concatenate([held_out.patients for held_out in folds]),
        y=np.concatenate([held_out.predictions.y for held_out in folds]),
        p=np.concatenate([held_out.predictions.p for held_out in folds]),
    )


def prediction_columns(run: RunParts, pooled: Pooled) -> dict[str, list[object]]:
    """Return the columns of a table with one line for each record: record, patient, fold, labels and predictions.

    They are the columns of `einthoven.runs.results.conclude.prediction_table`, and ``fold``. Patients are numbered
    within the table. It tells which records are from one person, but not who it is.
    """
    _, patient_numbers = np.unique(pooled.patients, return_inverse=True)
    columns: dict[str, list[object]] = {
        "ecg_id": pooled.ecg_ids.tolist(),
        "record_id": pooled.record_ids.tolist(),
        "patient": patient_numbers.tolist(),
        "fold": pooled.fold.tolist(),
    }
    task_columns: dict[str, list[object]] = run.task.table(pooled.y, pooled.p, run.data.labels.classes)
    return columns | task_columns


def write_predictions(folder: Path, columns: Mapping[str, list[object]]) -> None:
    """Write the table of predictions into the folder of a cross-validation."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic(folder / OUT_OF_FOLD) as partial:
        pq.write_table(pa.table(dict(columns)), partial)


def spread_over_folds(folds: Sequence[HeldOut]) -> dict[str, Spread]:
    """Return mean and standard deviation over the folds, of each metric that is defined in every fold."""
    finite_metrics = []
    for held_out in folds:
        finite = {name: value for name, value in held_out.metrics.items() if math.isfinite(value)}
        finite_metrics.append(finite)
    return across_seeds(finite_metrics)


def class_table(run: RunParts, pooled: Pooled, spread: Mapping[str, Spread]) -> Table | None:
    """Return a table with the AUROC of each class: pooled with its interval, and over the folds.

    Without classes there is none.
    """
    if run.task.kind is not TaskKind.CLASSES:
        return None
    labels = run.task.ranked(pooled.y)
    intervals = auroc_intervals(labels, pooled.p, groups=pooled.patients, seed=run.settings.seed)[1]
    metrics = run.task.metrics(pooled.y, pooled.p, run.data.labels.classes)
    metric_names = parts(run.data.labels.classes)
    rows = []
    for k, (name, interval) in enumerate(zip(run.data.labels.classes, intervals, strict=True)):
        metric = f"auroc/{metric_names[name]}"
        positives = str(int(pooled.y[:, k].sum()))
        rows.append([name, positives, _auroc_text(metrics.get(metric), interval), str(spread.get(metric, "–"))])
    return results_table("", ["class", "positive", "AUROC, pooled", "AUROC, mean ± sd of the folds"], rows)


def _auroc_text(value: float | None, interval: Interval | None) -> str:
    """Return an AUROC with its interval; a dash for a class without both labels."""
    if value is None:
        return "–"
    return f"{value:.4f}" if interval is None else f"{value:.4f} {interval}"
