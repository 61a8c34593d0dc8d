"""The probe batch: a few training records, always the same, on which a model is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.diagnostics.curvature import Hessian
from einthoven.models.attention import explicit_attention
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.network.pretraining import seeded


def probe_batch(run: NetworkParts) -> Batch:
    """Return records that are spread evenly over the training split, without augmentation, from their beginning.

    A network may cut records into windows by itself. Then the batch holds one window of each record, as a training step
    does.
    """
    train = run.data.splits["train"]
    count = min(run.settings.diagnostics.probe_records, len(train))
    rows = torch.linspace(0, len(train) - 1, count).long().to(run.device)
    network_window = getattr(run.model.network, "window", None) or run.window
    window = min(network_window * run.model.frontend.stride, run.window)
    is_valid = torch.ones(count, dtype=torch.bool, device=run.device)
    return Batch(train.take(rows, window), train.labels[rows], rows, is_valid)


def probe_loss(run: NetworkParts, batch: Batch) -> Tensor:
    """Return the mean loss of some records, without dropout and with the running statistics.

    The views and masks of a pretext task are always the same.
    """
    loss: Tensor
    with seeded(run.settings.seed, run.device):
        loss, _ = run.task.loss(run.model.eval(), batch)
    return loss


@contextmanager
def probe_hessian(run: NetworkParts) -> Iterator[Hessian]:
    """Yield the Hessian of the loss of the probe batch with respect to the trainable weights, in fp32."""
    # The cuDNN kernels of recurrent layers have no second derivatives, and no first ones in evaluation mode.
    is_recurrent = any(isinstance(module, nn.RNNBase) for module in run.model.modules())
    with torch.enable_grad(), explicit_attention(), torch.backends.cudnn.flags(enabled=not is_recurrent):
        yield Hessian(probe_loss(run, probe_batch(run)), run.trainable())


@torch.no_grad()
def attention_maps(run: NetworkParts) -> dict[str, Tensor]:
    """Return the attention weights on the probe batch; empty for a network without attention."""
    network_maps: Callable[[Tensor], dict[str, Tensor]] | None = getattr(run.model.network, "attention_maps", None)
    if network_maps is None:
        return {}
    return network_maps(run.model.frontend(probe_batch(run).x))
