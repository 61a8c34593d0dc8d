"""Compare runs on the same records, by the tables of predictions that they logged."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.evaluation.comparison import Difference, paired_difference
from einthoven.runs.data.run_data import aggregate_rows, group_rows
from einthoven.tracking.artifacts import content

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

_LABEL = "_label"
_PROBABILITY = "_probability"
"""Ends of the names of columns."""


@dataclass(frozen=True)
class LoggedPredictions:
    """The predictions of a run for the records of a split."""

    records: NDArray[np.int64]
    """Numbers of the records, ascending, (n,)."""
    patients: NDArray[np.int64] | None
    """Patient of each record; None if the run did not log it, (n,)."""
    classes: tuple[str, ...]
    y: NDArray[np.float64]
    p: NDArray[np.float64]
    """Labels and probabilities, (n, K)."""
    folds: NDArray[np.int64] | None = None
    """The fold that each record was held out in, if the run is a cross-validation, (n,)."""


def logged_predictions(tracking: MlflowClient, run: MlflowRun, split: str) -> LoggedPredictions | str:
    """Return the predictions of a run for the records of a split, or a sentence why there are none."""
    import pyarrow.parquet as pq

    columns: Mapping[str, Sequence[float]]
    file = content(tracking, run, f"predictions/{split}.parquet")
    if file is not None:
        table = pq.read_table(io.BytesIO(file))
        columns = {name: table[name].to_numpy() for name in table.column_names}
    else:
        # Runs of earlier versions have JSON.
        file = content(tracking, run, f"predictions/{split}.json")
        if file is None:
            return f"{run.info.run_name} kept no predictions of that split."
        held = json.loads(file)
        columns = dict(zip(held["columns"], zip(*held["data"], strict=True), strict=True))
    predictions = read_predictions(columns, run.data.params.get("trainer.aggregate", "mean"))
    return predictions or "the task is a quantity, and paired differences are of classes."


def read_predictions(columns: Mapping[str, Sequence[float]], rule: str) -> LoggedPredictions | None:
    """Read a table of predictions; None if it has no classes.

    The table is one of `einthoven.runs.results.conclude.prediction_table`. A record may have several rows, whose
    ``mean`` or ``max`` (`rule`) is taken.
    """
    classes = tuple(sorted(name.removesuffix(_LABEL) for name in columns if name.endswith(_LABEL)))
    if not classes:
        return None
    record_ids = np.asarray(columns["record_id"], np.int64)
    row_y = np.array([columns[f"{name}{_LABEL}"] for name in classes], np.float64).T
    row_p = np.array([columns[f"{name}{_PROBABILITY}"] for name in classes], np.float64).T
    first_rows, record_of_row = group_rows(record_ids)
    y = aggregate_rows(row_y, record_of_row, "mean")
    p = aggregate_rows(row_p, record_of_row, rule)

    # Sort by the number of the record, so that the tables of two runs can be compared.
    order = np.argsort(record_ids[first_rows])
    numbers = {}
    for name in ("patient", "fold"):
        if name in columns:
            numbers[name] = np.asarray(columns[name], np.int64)[first_rows][order]
    return LoggedPredictions(
        record_ids[first_rows][order], numbers.get("patient"), classes, y[order], p[order], numbers.get("fold")
    )


def auroc_difference(first: LoggedPredictions, other: LoggedPredictions) -> Difference:
    """Return the macro AUROC of the other run minus that of the first one, on the same records and classes.

    Patients are resampled. If one of the runs did not log them, records are resampled. Runs that cannot be compared are
    refused.
    """
    return paired_difference(first.y, first.p, other.p, groups=shared_patients(first, other))


def shared_patients(first: LoggedPredictions, other: LoggedPredictions) -> NDArray[np.int64] | None:
    """Return the patients of the records of two runs; None if one of the runs did not log them."""
    if first.classes != other.classes:
        raise UserError("their classes differ.")
    if not np.array_equal(first.records, other.records):
        both = len(np.intersect1d(first.records, other.records))
        raise UserError(
            f"their records differ: {len(first.records):,} and {len(other.records):,}, of which {both:,} are the same."
        )
    if not np.array_equal(first.y, other.y):
        changed = int((first.y != other.y).any(axis=1).sum())
        raise UserError(f"the labels of {changed:,} of their {len(first.y):,} records differ.")
    if first.patients is None or other.patients is None:
        return None

    # The numbers of the patients may differ. The pairs of numbers show whether the groups are the same.
    patients = np.stack([first.patients, other.patients])
    pairs = len(np.unique(patients, axis=1).T)
    if pairs != len(np.unique(first.patients)) or pairs != len(np.unique(other.patients)):
        raise UserError("their records belong to different patients.")
    return first.patients
