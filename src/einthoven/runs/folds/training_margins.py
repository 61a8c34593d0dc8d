"""The mean log-odds of the training records of a cross-validation, from which margins are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic
from einthoven.runs.data.run_data import aggregate_rows, group_rows
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.run import Run

TRAINING_LOG_ODDS = "training_log_odds.parquet"
"""File with the mean log-odds of each record, in the folder of a cross-validation."""

LOG_ODDS = "_log_odds"
"""End of the names of its columns."""


@dataclass(frozen=True)
class TrainingLogOdds:
    """The mean log-odds that a model gave to its training records while it trained."""

    record_ids: NDArray[np.int64]
    values: NDArray[np.float64]
    """NaN for a record whose labels were mixed in each step, (n, K)."""


def training_log_odds(run: Run) -> TrainingLogOdds | None:
    """Return the mean log-odds of the training records of a run; None if the run has not measured them."""
    if not isinstance(run, NetworkRun) or run.diagnose.log_odds is None:
        return None
    means = run.diagnose.log_odds.mean()
    if means is None:
        return None
    row_records, _ = run.data.row_origins("train")
    first_rows, record_of_row = group_rows(row_records)
    values = aggregate_rows(means.double().cpu().numpy(), record_of_row, "mean")
    return TrainingLogOdds(row_records[first_rows], values)


def write_training_log_odds(folder: Path, folds: Sequence[TrainingLogOdds | None], classes: Sequence[str]) -> bool:
    """Write the mean log-odds over the folds that trained on a record into the folder of a cross-validation.

    Return whether there is such a table. There is none if a fold has not measured them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    measured = [of_fold for of_fold in folds if of_fold is not None]
    if not measured or len(measured) < len(folds):
        return False
    record_ids = np.concatenate([of_fold.record_ids for of_fold in measured])
    values = np.concatenate([of_fold.values for of_fold in measured])
    is_measured = np.isfinite(values).all(axis=1)
    first_rows, record_of_row = group_rows(record_ids[is_measured])
    columns: dict[str, NDArray[np.int64] | NDArray[np.float64]] = {"record_id": record_ids[is_measured][first_rows]}
    for name, column in zip(classes, aggregate_rows(values[is_measured], record_of_row, "mean").T, strict=True):
        columns[f"{name}{LOG_ODDS}"] = column
    with atomic(folder / TRAINING_LOG_ODDS) as partial:
        pq.write_table(pa.table(columns), partial)
    return True
