"""Write the page of `einthoven report --significance`, and its table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import einthoven
from einthoven.atomic import write_text
from einthoven.errors import UserError
from einthoven.evaluation.significance import Judgement, by_reference, judge
from einthoven.report.significance import COLUMNS, ReportedModel, difference_cells, significance_page
from einthoven.runs.comparison.run_report import store_of, why_not_comparable
from einthoven.runs.comparison.significance import Block, Model, compare_block, group, read_trainings
from einthoven.terminal.display import console, results_table, say, say_if_any
from einthoven.tracking.runs import find_runs
from einthoven.tracking.server import client
from einthoven.tracking.usual_store import origin_of_store

Q = 0.05
"""Largest adjusted p-value of a difference."""

_TERMINAL_COLUMNS = tuple(name for name in COLUMNS if name != "over trainings")
"""Columns that fit a terminal of 80 characters. The page has all of them."""


def write_significance(names: list[str], uri: str, output: Path) -> str:
    """Compare models by their runs, print the table of differences, and write a page. Return a line about the file.

    Runs that differ only in their seed are one model. Models are compared with the first one of the same task and the
    same records. The names and `uri` are as in `einthoven.runs.comparison.run_report.write_report`: trainings,
    cross-validations, or one sweep of them.
    """
    store = uri or store_of(names)
    if not uri:
        say_if_any(origin_of_store(store))
    tracking = client(store)
    runs = []
    remarks = []
    for run in find_runs(tracking, names):
        reason = why_not_comparable(run)
        if reason:
            remarks.append(f"Not compared: {run.info.run_name} {reason}.")
        else:
            runs.append(run)
    trainings, remarks_on_predictions = read_trainings(tracking, runs)
    blocks, remarks_on_models = group(trainings)
    remarks += remarks_on_predictions + remarks_on_models

    comparisons = []
    for block in blocks:
        of_block, remarks_on_block = compare_block(block)
        comparisons += of_block
        remarks += remarks_on_block
    if not comparisons:
        reasons = " ".join(remarks)
        raise UserError(f"report --significance: expected two models or more on the same records. {reasons}".rstrip())
    judgements = judge(comparisons, Q)
    _print(judgements, remarks)

    tasks = dict.fromkeys(block.task for block in blocks)
    models = [_reported(block, model) for block in blocks for model in block.models]
    page = significance_page(
        f"{len(judgements)} differences tested: {', '.join(tasks)}",
        models,
        judgements,
        q=Q,
        remarks=remarks,
        by=f"einthoven {einthoven.__version__} on {datetime.now(UTC):%Y-%m-%d}",
    )
    write_text(output, page)
    size = f"{len(page.encode()) / 1e6:.1f} MB"
    plural = "s" if len(judgements) > 1 else ""
    return f"Wrote {output} ({size}). It shows {len(judgements)} difference{plural} of {len(models)} models."


def _print(judgements: Sequence[Judgement], remarks: Sequence[str]) -> None:
    """Print the table of differences of each task."""
    for (task, reference), of_task in by_reference(judgements).items():
        rows = []
        for judgement in of_task:
            cells = dict(zip(COLUMNS, difference_cells(judgement), strict=True))
            rows.append([cells[name] for name in _TERMINAL_COLUMNS])
        console.print(results_table(f"{task}: macro AUROC minus that of {reference}", list(_TERMINAL_COLUMNS), rows))
    for remark in remarks:
        say(remark)


def _reported(block: Block, model: Model) -> ReportedModel:
    """Return what the page shows of a model."""
    held = model.trainings[0].predictions
    return ReportedModel(
        task=block.task,
        label=model.label,
        runs=tuple(training.name for training in model.trainings),
        aurocs=tuple(model.aurocs),
        records=len(held.records),
        folds=0 if held.folds is None else len(np.unique(held.folds)),
    )
