"""The tables of a finished cross-validation, read for the label doctor. The folder can come from a stranger."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.command_line import command, option
from einthoven.errors import UserError
from einthoven.files import read_file
from einthoven.runs.comparison.paired import LoggedPredictions, read_predictions
from einthoven.runs.config.run_config import NAME as CONFIG
from einthoven.runs.config.run_config import read_config
from einthoven.runs.data.run_data import Data
from einthoven.runs.folder.trained_run import check_safe
from einthoven.runs.folds.out_of_fold import OUT_OF_FOLD
from einthoven.runs.folds.training_margins import LOG_ODDS, TRAINING_LOG_ODDS
from einthoven.tracking.addresses import read_ids

if TYPE_CHECKING:
    import pandas as pd
    from omegaconf import DictConfig

OUTPUTS = Path("outputs")
"""Folder in which a run is looked for by its id."""

_TABLE_LIMIT = 1 << 30
"""Largest size of a table in bytes."""


@dataclass(frozen=True)
class OutOfFold:
    """The records of a cross-validation."""

    predictions: LoggedPredictions
    folds: NDArray[np.int64]
    """The fold in which each record was held out, (n,)."""
    training_odds: NDArray[np.float64] | None
    """Mean log-odds during the training, (n, K). NaN for a record that has none, because its labels were mixed in each
    step. None if no record has them."""


def find_cross_validation(run: str) -> tuple[Path, DictConfig]:
    """Find the folder of a cross-validation, and read its configuration.

    It is named by its folder, or by the id of its run (also ``runs:/ID``) if the folder is below ``outputs/``.
    """
    folder = Path(run) if Path(run).is_dir() else _find_by_id(run.removeprefix("runs:/").partition("/")[0], run)
    check_safe(folder)
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder}: no {CONFIG} there; expected the folder of a cross-validation (einthoven train folds=cv)."
        )
    config = read_config(folder, "run")
    if not config.data.folds.get("cross_validate"):
        raise UserError(
            f"{folder}: is the folder of a single run, which has predicted the records that it was trained on; "
            "expected that of a cross-validation (einthoven train folds=cv)."
        )
    return folder, config


def _find_by_id(run_id: str, run: str) -> Path:
    """Return the folder below ``outputs/`` that holds the run with an id."""
    for file in sorted(OUTPUTS.rglob("tracking/run.json")):
        folder = file.parent.parent
        try:
            ids = read_ids(folder)
        except UserError:
            # A damaged folder is not the wanted one.
            continue
        if ids["run_id"] == run_id:
            return folder
    raise UserError(
        f"{run}: no such folder, and no run with this id below {OUTPUTS}/; expected the folder of a cross-validation."
    )


def read_out_of_fold(folder: Path) -> OutOfFold:
    """Read the tables that a cross-validation has written: one row for each record.

    Raises a `UserError` if the predictions are missing, or a table is damaged.
    """
    file = folder / OUT_OF_FOLD
    if not file.is_file():
        raise UserError(
            f"{folder}: no {OUT_OF_FOLD} there, so that the predictions are missing; expected a cross-validation that "
            f"has ended. To continue it: {command('train', option('resume', folder))}. One of an earlier version "
            "has to be trained again."
        )
    table = _read_table(file)
    try:
        predictions = read_predictions({str(name): table[name].tolist() for name in table}, "mean")
        by_record = table.drop_duplicates("record_id").set_index("record_id")
        assert predictions is not None
        folds = by_record.loc[predictions.records, "fold"].to_numpy(np.int64)
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise UserError(f"{file}: damaged ({type(error).__name__}: {error}).") from None
    if not (np.isfinite(predictions.p).all() and np.isin(predictions.y, (0, 1)).all()):
        raise UserError(f"{file}: damaged; expected labels 0 and 1, and finite probabilities.")
    return OutOfFold(predictions, folds, _read_training_odds(folder / TRAINING_LOG_ODDS, predictions))


def _read_training_odds(file: Path, predictions: LoggedPredictions) -> NDArray[np.float64] | None:
    """Read the mean log-odds of the training; None if there is no table, or none of the records is in it."""
    if not file.is_file():
        return None
    table = _read_table(file)
    try:
        by_record = table.set_index("record_id")[[f"{name}{LOG_ODDS}" for name in predictions.classes]]
        # A record that is not in the table gets NaN.
        odds = by_record.reindex(predictions.records).to_numpy(np.float64)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{file}: damaged ({type(error).__name__}: {error}).") from None
    return odds if np.isfinite(odds).any() else None


def _read_table(file: Path) -> pd.DataFrame:
    """Read a parquet file into memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table: pd.DataFrame = pq.read_table(io.BytesIO(read_file(file, _TABLE_LIMIT))).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{file}: damaged ({type(error).__name__}).") from None
    return table


def rows_of_records(data: Data, out_of_fold: OutOfFold, folder: Path) -> NDArray[np.int64]:
    """Return the first row of the training split of `data` for each record, and check that the labels are the same.

    Raises a `UserError` if the table has other records, classes or labels than the data.
    """
    predictions = out_of_fold.predictions
    row_records, _ = data.row_origins("train")
    first_row: dict[int, int] = {}
    for row, record in enumerate(row_records.tolist()):
        first_row.setdefault(record, row)
    is_known = set(predictions.records.tolist()) <= first_row.keys()
    if not is_known or set(predictions.classes) != set(data.labels.classes):
        raise UserError(
            f"{folder / OUT_OF_FOLD}: has other records or classes than the data; expected those of the run."
        )
    rows = np.array([first_row[record] for record in predictions.records.tolist()], np.int64)
    columns = [data.labels.classes.index(name) for name in predictions.classes]
    given = data.labels.matrix[data.rows["train"][rows]][:, columns]
    if not np.array_equal(given, predictions.y):
        raise UserError(f"{folder / OUT_OF_FOLD}: has other labels than the data; expected those of the run.")
    return rows
