"""Predictions of records with the weights of a training."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from einthoven.contracts import Autocast, Batch, Predictions, Task
from einthoven.functional.windows import aggregate_windows, apply_to_windows


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task,
    batches: Iterable[Batch],
    *,
    window: int,
    stride: int,
    aggregate: str,
    autocast: Autocast,
) -> Predictions:
    """Predict every record: cut it into windows, predict each window, and aggregate over the windows.

    If the outputs run along the signal, as masks do, the window must be the whole record.

    Parameters
    ----------
    window, stride, aggregate
        As in `einthoven.functional.windows`.
    """
    model.eval()
    outputs = []
    goals = []
    valid = []
    for batch in batches:
        with autocast():
            window_outputs = apply_to_windows(model, batch.x, window, stride).float()
        outputs.append(window_outputs)
        goals.append(task.goal(batch))
        valid.append(batch.valid)

    # Device-to-host sync: once per evaluation.
    is_valid = torch.cat(valid).cpu()
    valid_outputs = torch.cat(outputs).cpu()[is_valid]
    valid_goals = torch.cat(goals).cpu()[is_valid]

    p = task.activation(valid_outputs.double())
    record_p = aggregate_windows(p, aggregate)
    return Predictions(valid_goals.double().numpy(), record_p.numpy(), p.numpy())
