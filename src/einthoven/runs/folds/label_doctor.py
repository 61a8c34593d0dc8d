"""`einthoven doctor labels RUN`: rank the records of a cross-validation whose labels are probably wrong."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

import einthoven
from einthoven.atomic import atomic, write_text
from einthoven.build import build
from einthoven.contracts import TaskKind
from einthoven.data.record_names import names_in
from einthoven.data.sources.labels import parse_codes
from einthoven.errors import UserError
from einthoven.evaluation.label_errors import (
    LabelRanking,
    calibrated_joint,
    confident_joint,
    rank_labels,
)
from einthoven.predict.model_folder import FOLD
from einthoven.report.label_page import ClassErrors, LabelRow, Statement, Suspect, label_page
from einthoven.runs.config.settings import build_task, source_options
from einthoven.runs.data.data_loading import load_data
from einthoven.runs.data.run_data import Data
from einthoven.runs.folder.trained_data import is_started, read_trained_data
from einthoven.runs.folds.label_tables import OutOfFold, find_cross_validation, read_out_of_fold, rows_of_records
from einthoven.terminal.display import console, results_table, say

if TYPE_CHECKING:
    import pandas as pd
    from omegaconf import DictConfig
    from rich.table import Table

CSV = "label_doctor.csv"
"""Table of all labels, in the folder of the cross-validation."""

PAGE = "label_doctor.html"
"""Page of the first records, beside it."""

ATTRIBUTIONS = {"ptbxl": "PTB-XL, Wagner et al. 2020, CC BY 4.0"}
"""Source of a record -> line that its licence demands under each picture."""


def examine_labels(run: str, most: int) -> list[Suspect]:
    """Rank the records of a cross-validation, print the first ones, and write a table and a page.

    The run is named by its folder or its id. Return the `most` suspicious records.
    """
    folder, config = find_cross_validation(run)
    task = build_task(config)
    if task.kind is not TaskKind.CLASSES:
        raise UserError(f"{folder}: its task={task.name} predicts no classes; expected a classifier.")
    # The table has one row for each record.
    out_of_fold = read_out_of_fold(folder)
    data = _open_data(folder, config)
    rows = rows_of_records(data, out_of_fold, folder)

    predictions = out_of_fold.predictions
    y = predictions.y > 0.5
    ranking = rank_labels(y, predictions.p, out_of_fold.training_odds)
    name_record = names_in(data.store.table)
    names = [name_record(record) for record in predictions.records.tolist()]
    first_records = ranking.order[:most].tolist()
    console.print(_table(names, out_of_fold, ranking, first_records))
    say(_method(out_of_fold))

    _write_csv(folder / CSV, names, out_of_fold, ranking)
    say(f"Wrote all {y.size:,} labels to {folder / CSV}, in the order of the table.")
    suspects = _suspects(config, data, rows, names, out_of_fold, ranking, first_records)
    page = label_page(
        folder.name,
        _facts(config, data, ranking),
        _class_errors(predictions.classes, y, predictions.p),
        suspects,
        method=_method(out_of_fold),
        by=f"einthoven {einthoven.__version__}",
    )
    write_text(folder / PAGE, page)
    say(f"Wrote a page with the ECGs and the statements of the first {len(first_records)} records to {folder / PAGE}.")
    return suspects


def _open_data(folder: Path, config: DictConfig) -> Data:
    """Open the records of all folds, and refuse them if they have changed since the training."""
    from omegaconf import DictConfig, OmegaConf

    folds = list(config.data.folds.train)
    first = folder / f"{FOLD}{folds[0]}"
    if not is_started(first):
        raise UserError(f"{first}: holds no run; expected the run of each fold beside the predictions.")
    trained = read_trained_data(first, "run", takes_added=False)
    # Only the signals of the records that are shown are read.
    streamed = OmegaConf.merge(config, {"trainer": {"residency": "stream"}})
    assert isinstance(streamed, DictConfig)
    splits = {"train": folds, "val": [], "test": []}
    return load_data(streamed, splits, build_task(config), torch.device("cpu"), int(config.seed), trained)


def _method(out_of_fold: OutOfFold) -> str:
    """Return sentences about how the records were ranked."""
    conflict = "To it, the conflict with another label of the record is added, if the two rarely occur together. "
    record = "A record has the score of its most suspicious label."
    if out_of_fold.training_odds is None:
        return (
            "The score of a label is the log-odds that the model, which was not trained on the record, gives to the "
            f"opposite. {conflict}{record} The run has no log-odds of its training records, which need "
            "diagnostics.log_odds=true and steps without mixed labels. So the area under the margin is not used."
        )
    missing = int(np.isnan(out_of_fold.training_odds).any(axis=1).sum())
    without = ""
    if missing:
        records = "1 record has" if missing == 1 else f"{missing:,} records have"
        without = (
            f" {records} no log-odds of the training, because each step mixed the labels. There, only the model that "
            "was not trained on the record counts."
        )
    return (
        "The score of a label is the mean of two log-odds of the opposite: those of the model that was not trained on "
        "the record, and those of the other models while they were trained on it (area under the margin). "
        f"{conflict}{record}{without}"
    )


def _facts(config: DictConfig, data: Data, ranking: LabelRanking) -> dict[str, str]:
    """Return what the head of the page says about the run."""
    return {
        "records": f"{len(ranking.order):,}",
        "folds": ", ".join(map(str, config.data.folds.train)),
        "task": str(config.task.get("labels", "")),
        "labels that the model is confident are wrong": f"{int(ranking.is_error.sum()):,}",
        "data fingerprint": data.store.fingerprint[:12],
        "seed": str(config.seed),
    }


def _class_errors(classes: Sequence[str], y: NDArray[np.bool_], p: NDArray[np.float64]) -> list[ClassErrors]:
    """Return the estimated number of wrong labels of each class."""
    joint = calibrated_joint(confident_joint(y, p), y)
    errors = []
    for k, name in enumerate(classes):
        positives = int(y[:, k].sum())
        wrong_positives = float(joint[k, 1, 0])
        wrong_negatives = float(joint[k, 0, 1])
        errors.append(ClassErrors(name, positives, len(y) - positives, wrong_positives, wrong_negatives))
    return errors


def _table(names: Sequence[str], out_of_fold: OutOfFold, ranking: LabelRanking, first_records: Sequence[int]) -> Table:
    """Return the table of the terminal: the first records, each with its most suspicious label."""
    predictions = out_of_fold.predictions
    cells = []
    for rank, record in enumerate(first_records, 1):
        worst = int(ranking.label_scores[record].argmax())
        given = [name for name, label in zip(predictions.classes, predictions.y[record], strict=True) if label]
        cells.append(
            [
                f"{rank}. {names[record]}",
                ", ".join(given) or "no class",
                predictions.classes[worst],
                "positive" if predictions.y[record, worst] else "negative",
                f"{predictions.p[record, worst]:.3f}",
                f"{ranking.record_scores[record]:.2f}",
            ]
        )
    columns = ["record", "labels", "most suspicious", "label", "probability", "score"]
    return results_table("Labels that are probably wrong", columns, cells)


def _label_order(ranking: LabelRanking, record: int) -> list[int]:
    """Return the classes of a record, the one with the most suspicious label first."""
    return [int(k) for k in np.argsort(-ranking.label_scores[record], kind="stable")]


def _write_csv(file: Path, names: Sequence[str], out_of_fold: OutOfFold, ranking: LabelRanking) -> None:
    """Write one line for each label: the records by rank, and the labels of a record by their score."""
    predictions = out_of_fold.predictions
    with atomic(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["rank", "record", "fold", "class", "label", "probability", "score", "confident_error"])
        for rank, record in enumerate(ranking.order.tolist(), 1):
            for k in _label_order(ranking, record):
                writer.writerow(
                    [
                        rank,
                        names[record],
                        out_of_fold.folds[record],
                        predictions.classes[k],
                        int(predictions.y[record, k]),
                        f"{predictions.p[record, k]:.6f}",
                        f"{ranking.label_scores[record, k]:.6f}",
                        int(ranking.is_error[record, k]),
                    ]
                )


def _suspects(
    config: DictConfig,
    data: Data,
    rows: NDArray[np.int64],
    names: Sequence[str],
    out_of_fold: OutOfFold,
    ranking: LabelRanking,
    first_records: Sequence[int],
) -> list[Suspect]:
    """Return what the page shows of some records. `rows` are the rows of all records in the training split."""
    split = data.splits["train"]
    signals = split.take(torch.from_numpy(rows[first_records]), split.samples).numpy()
    table = data.store.table.iloc[data.store_rows[data.rows["train"][rows[first_records]]]]
    statements = _statements(config, table)
    suspects = []
    for place, record in enumerate(first_records):
        suspects.append(
            Suspect(
                rank=place + 1,
                name=names[record],
                fold=int(out_of_fold.folds[record]),
                labels=_label_rows(out_of_fold, ranking, record),
                statements=statements[place],
                signal=signals[place],
                fs=data.store.fs,
                leads=data.store.leads,
                attribution=ATTRIBUTIONS.get(str(table["source"].iloc[place]), ""),
            )
        )
    return suspects


def _label_rows(out_of_fold: OutOfFold, ranking: LabelRanking, record: int) -> list[LabelRow]:
    """Return the labels of a record, the most suspicious one first."""
    predictions = out_of_fold.predictions
    label_rows = []
    for k in _label_order(ranking, record):
        label_row = LabelRow(
            name=predictions.classes[k],
            is_positive=bool(predictions.y[record, k]),
            probability=float(predictions.p[record, k]),
            score=float(ranking.label_scores[record, k]),
            is_error=bool(ranking.is_error[record, k]),
        )
        label_rows.append(label_row)
    return label_rows


def _statements(config: DictConfig, table: pd.DataFrame) -> list[list[Statement]]:
    """Return the statements of each row of a table of records; none if the source has no statements."""
    if "scp_codes" not in table:
        return [[] for _ in range(len(table))]
    source = build(source_options(config), "data")
    texts = source.statement_texts() if hasattr(source, "statement_texts") else {}
    statements = []
    for codes in parse_codes(table):
        of_record = [Statement(code, likelihood, texts.get(code, "")) for code, likelihood in codes.items()]
        statements.append(of_record)
    return statements
