"""A few training records, always the same, on which a model is looked into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.diagnostics.curvature import Hessian
from einthoven.models.attention import explicit_attention

if TYPE_CHECKING:
    from einthoven.runs.network_run import Run


def probe_batch(run: Run) -> Batch:
    """Records spread evenly over the training split, as they are, from their beginning.

    Of a network that cuts records into windows by itself, one window of each: that is what a training step sees.
    """
    train, network = run.data.splits["train"], run.model.network
    count = min(run.settings.diagnostics.probe_records, len(train))
    index = torch.linspace(0, len(train) - 1, count).long().to(run.device)
    window = (getattr(network, "window", None) or run.window) * run.model.frontend.stride
    x = train.take(index, min(window, run.window))
    return Batch(x, train.labels[index], index, torch.ones(count, dtype=torch.bool, device=run.device))


def probe_loss(run: Run, batch: Batch) -> Tensor:
    """Mean loss of some records, with dropout off and running statistics in use."""
    loss, _ = run.task.loss(run.model.eval(), batch)
    value: Tensor = loss
    return value


@contextmanager
def hessian(run: Run) -> Iterator[Hessian]:
    """Hessian of the loss of the probe batch, in fp32, by the trainable weights."""
    # The kernels of cuDNN for recurrent layers have no second derivatives, and no first ones in evaluation mode.
    recurrent = any(isinstance(module, nn.RNNBase) for module in run.model.modules())
    with torch.enable_grad(), explicit_attention(), torch.backends.cudnn.flags(enabled=not recurrent):
        yield Hessian(probe_loss(run, probe_batch(run)), run.trainable())


@torch.no_grad()
def attention_maps(run: Run) -> dict[str, Tensor]:
    """Attention weights on the probe batch; empty for a network without attention."""
    maps_of: Callable[[Tensor], dict[str, Tensor]] | None = getattr(run.model.network, "attention_maps", None)
    return maps_of(run.model.frontend(probe_batch(run).x)) if maps_of else {}
