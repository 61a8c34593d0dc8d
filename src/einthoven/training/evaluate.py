"""Predictions of records with the weights of a training."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from einthoven.contracts import Autocast, Batch, Predictions, Task
from einthoven.functional.windows import aggregate_windows, apply_to_windows
from einthoven.training.memory import MicroBatch


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
    micro_batch: MicroBatch | None = None,
) -> Predictions:
    """Predict every record: cut it into windows, predict each window, and aggregate over the windows.

    If the outputs run along the signal, as masks do, the window must be the whole record.

    Parameters
    ----------
    window, stride, aggregate
        As in `einthoven.functional.windows`.
    micro_batch : MicroBatch or None
        Records that pass through the model at once, which it halves if memory runs out. None passes the whole batch.
    """
    model.eval()
    micro_batch = micro_batch or MicroBatch(is_training=False)
    outputs = []
    goals = []
    valid = []

    def predict(x: Tensor) -> Tensor:
        parts = torch.split(x, micro_batch.size or len(x))
        with autocast():
            return torch.cat([apply_to_windows(model, part, window, stride).float() for part in parts])

    for batch in batches:
        outputs.append(micro_batch.within_memory(partial(predict, batch.x), begin_again=_change_nothing))
        goals.append(task.goal(batch))
        valid.append(batch.valid)

    # Device-to-host sync: once per evaluation.
    is_valid = torch.cat(valid).cpu()
    valid_outputs = torch.cat(outputs).cpu()[is_valid]
    valid_goals = torch.cat(goals).cpu()[is_valid]

    p = task.activation(valid_outputs.double())
    record_p = aggregate_windows(p, aggregate)
    return Predictions(valid_goals.double().numpy(), record_p.numpy(), p.numpy())


def _change_nothing() -> None:
    """Undo nothing: a prediction changes nothing."""
