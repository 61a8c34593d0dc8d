"""The layers of a model: output shape, parameters, operations, and the time of forward and backward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from einthoven.contracts import Autocast

REPEATS = 5
"""The time of a layer is the median of so many passes."""


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs, for one batch.

    Attributes
    ----------
    name, kind : str
        Name in the model, and class.
    shape : tuple of int
        Shape of the output.
    parameters, flops : int
        Number of weights, and floating-point operations of the forward pass (`torch.utils.flop_counter`).
    forward_ms, backward_ms : float
        Time of each pass alone.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flops: int
    forward_ms: float
    backward_ms: float


def layer_costs(model: nn.Module, x: Tensor, autocast: Autocast) -> list[LayerCost]:
    """Measure each layer by itself, and the whole model at last.

    The inputs of the layers are recorded in one pass of the batch. Then each layer that has no layers inside computes
    its input again. What a network computes outside of such layers (sums, attention, reshaping) is the difference
    between the model and the sum of its layers. The running statistics of batch norms are restored.

    Parameters
    ----------
    model : nn.Module
        In training mode.
    x : Tensor (B, L, T)
    autocast : callable
        Context of the forward passes.
    """
    with _buffers_restored(model):
        inputs = _record_inputs(model, x, autocast)
        costs = [_measure(name, layer, values, autocast) for name, layer, values in inputs]
        costs.append(_measure("", model, (x,), autocast))
    return costs


def _record_inputs(model: nn.Module, x: Tensor, autocast: Autocast) -> list[tuple[str, nn.Module, tuple[Any, ...]]]:
    """Return name, layer and input of each call of a layer that has no layers inside."""
    calls: list[tuple[str, nn.Module, tuple[Any, ...]]] = []

    def record(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, values: tuple[Any, ...]) -> None:
            # A copy, because the layer after it may change its input in place.
            copies = tuple(v.detach().clone() if isinstance(v, Tensor) else v for v in values)
            calls.append((name, layer, copies))

        return hook

    leaves = [(name, layer) for name, layer in model.named_modules() if not any(layer.children())]
    handles = [layer.register_forward_pre_hook(record(name)) for name, layer in leaves]
    try:
        with torch.no_grad(), autocast():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    # A layer with named arguments only has no input here.
    return [(name, layer, values) for name, layer, values in calls if values]


def _measure(name: str, layer: nn.Module, values: tuple[Any, ...], autocast: Autocast) -> LayerCost:
    """Measure one call of a layer."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad(), autocast():
        layer(*_copies(values))
    parameters = [p for p in layer.parameters() if p.requires_grad]
    forward_ms = []
    backward_ms = []
    for _ in range(REPEATS):
        # Leaves of the graph whose gradient is computed, too, as inside of a network.
        arguments = _copies(values, needs_gradient=bool(name))
        with torch.enable_grad(), autocast():
            # The layer may change its input in place, which a leaf does not allow.
            inputs = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
            start = _now(values)
            output = _first_tensor(layer(*inputs))
        forward_ms.append(1000.0 * (_now(values) - start))
        leaves = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]
        if output.requires_grad:
            gradient = torch.ones_like(output)
            start = _now(values)
            torch.autograd.grad(output, [*leaves, *parameters], gradient, allow_unused=True)
            backward_ms.append(1000.0 * (_now(values) - start))
    return LayerCost(
        name or "the whole model",
        type(layer).__name__,
        tuple(output.shape),
        sum(p.numel() for p in layer.parameters()),
        int(counter.get_total_flops()),
        statistics.median(forward_ms),
        statistics.median(backward_ms) if backward_ms else 0.0,
    )


def _copies(values: tuple[Any, ...], needs_gradient: bool = False) -> list[Any]:
    """Return copies of the tensors among the arguments of a layer."""
    copies = []
    for value in values:
        if isinstance(value, Tensor):
            value = value.clone()
            value.requires_grad_(needs_gradient and value.is_floating_point())
        copies.append(value)
    return copies


def _first_tensor(output: Any) -> Tensor:
    """Return the output of a layer, or the first part of it."""
    while not isinstance(output, Tensor):
        output = output[0]
    return output


def _now(values: tuple[Any, ...]) -> float:
    """Return the time when the device has done its work, in seconds."""
    if any(isinstance(value, Tensor) and value.is_cuda for value in values):
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def _buffers_restored(model: nn.Module) -> Iterator[None]:
    """Restore the buffers of a model, and the state of the random numbers, at the end of the block."""
    buffers = list(model.buffers())
    copies = [buffer.clone() for buffer in buffers]
    try:
        with torch.random.fork_rng():
            yield
    finally:
        with torch.no_grad():
            for buffer, copy in zip(buffers, copies, strict=True):
                buffer.copy_(copy)
