"""The picture of what a trained network's surest answers rest on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch

from einthoven.build import build
from einthoven.contracts import Predictions
from einthoven.diagnostics.attention import surest
from einthoven.errors import UserError
from einthoven.predict.log_odds import LogOdds
from einthoven.report.explanation import explanations_figure
from einthoven.runs.network_parts import NetworkParts
from einthoven.terminal.display import console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 6  # records on the page: those of the most frequent classes


def explanations(run: NetworkParts, split: str, found: Predictions) -> dict[str, Callable[[], Figure]]:
    """What the surest right answer for each class rests on, as a picture; none where the method does not suit it.

    Parameters
    ----------
    run : NetworkParts
    split : str
    found : Predictions
        Of the rows of the split.
    """
    if run.task.output == "identity" or "explanation" not in run.config:
        return {}
    y, p = torch.from_numpy(found.y), torch.from_numpy(found.p)
    rows = surest(y, p)
    target = y[rows].argmax(dim=1)
    order = y.sum(dim=0)[target].argsort(descending=True, stable=True)[:SHOWN]
    rows, target = rows[order], target[order]
    if not len(rows):
        return {}
    model = LogOdds(
        run.model.eval(),
        run.window,
        run.stride,
        run.settings.trainer.aggregate,
        single_label=run.task.output == "softmax",
        temperature=run.task.temperature,
    )
    packed, classes = run.data.splits[split], run.data.labels.classes
    x = packed.take(rows.to(run.device), packed.samples)
    try:
        relevance = build(run.config.explanation)(model, x, target.to(run.device))
    except UserError as error:
        console.print(f"no picture of explanations: {error}")
        return {}
    numbers = run.data.labels.ecg_ids[run.data.rows[split]][rows.numpy()]
    titles = [
        f"record {number} ({split}): {classes[k]} {p[row, k]:.2f}"
        for number, row, k in zip(numbers, rows.tolist(), target.tolist(), strict=True)
    ]
    shown = (x.cpu().numpy(), run.data.store.fs, relevance.cpu().numpy(), titles)
    return {"explanations": partial(explanations_figure, *shown, leads=run.data.store.leads)}
