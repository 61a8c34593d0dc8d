"""The picture that explains the most confident predictions of a trained network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from einthoven.build import build
from einthoven.contracts import Predictions, TaskKind
from einthoven.diagnostics.attention import surest
from einthoven.errors import UserError
from einthoven.predict.log_odds import LogOdds
from einthoven.report.explanation import explanations_figure
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.terminal.display import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_RECORDS = 6
"""Number of records on the page: those of the most frequent classes."""


def choose_answers(y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (R,) of the surest right predictions of the most frequent classes, and their classes."""
    rows = surest(y, p)
    class_of_row = y[rows].argmax(dim=1)
    order = y.sum(dim=0)[class_of_row].argsort(descending=True, stable=True)[:MAX_RECORDS]
    return rows[order], class_of_row[order]


def explanations(run: NetworkParts, split: str, row_predictions: Predictions) -> dict[str, Callable[[], Figure]]:
    """Return the picture that explains the most confident right prediction of each class of a split.

    It is empty without an explanation method, or if the method does not suit the network.
    """
    if run.task.kind is not TaskKind.CLASSES or "explanation" not in run.config:
        return {}

    p = torch.from_numpy(row_predictions.p)
    rows, class_of_row = choose_answers(torch.from_numpy(row_predictions.y), p)
    if not len(rows):
        return {}

    model = LogOdds(
        run.classifier.eval(),
        run.window,
        run.stride,
        run.settings.trainer.aggregate,
        single_label=run.task.single_label,
        temperature=run.task.temperature,
    )
    records = run.data.splits[split]
    x = records.take(rows.to(run.device), records.samples)
    try:
        relevance = build(run.config.explanation)(model, x, class_of_row.to(run.device))
    except UserError as error:
        say(f"The picture of explanations is missing: {error}")
        return {}

    numbers = run.data.labels.ecg_ids[run.data.rows[split]][rows.numpy()]
    titles = []
    for number, row, k in zip(numbers, rows.tolist(), class_of_row.tolist(), strict=True):
        titles.append(f"record {number} ({split}): {run.data.labels.classes[k]} {p[row, k]:.2f}")
    signals = x.cpu().numpy()
    draw = partial(explanations_figure, signals, run.data.store.fs, relevance.cpu().numpy(), titles)
    return {"explanations": partial(draw, leads=run.data.store.leads)}
