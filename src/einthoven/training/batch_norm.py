"""Batch normalization: of a batch that several processes share, and the statistics of averaged weights.

`torch.nn.SyncBatchNorm` shares a batch on GPUs. It refuses tensors on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from einthoven.training.collectives import all_reduce


def synchronized_batch_norm(module: _BatchNorm, x: Tensor) -> Tensor:
    """Normalize the records of this process (n, C, ...) with the statistics of the records of all processes.

    The running statistics of the module are updated as with one process.
    """
    if not module.training:
        return type(module).forward(module, x)
    count, mean, variance = _joint_statistics(x)
    if module.track_running_stats:
        _update(module, count, mean, variance)
    dtype = _at_least_float32(x)
    scale = torch.rsqrt(variance + module.eps).to(dtype)
    normed: Tensor = _Normalize.apply(x, mean.to(dtype), scale, count)  # type: ignore[no-untyped-call]
    if module.affine:
        normed = normed * _per_channel(module.weight, x) + _per_channel(module.bias, x)
    return normed.to(x.dtype)


Part = TypeVar("Part")


@torch.no_grad()
def recompute_statistics(model: nn.Module, parts: Iterable[Part], forward: Callable[[Part], object], seed: int) -> None:
    """Compute the running statistics of the batch norms of a model anew: the mean over some batches.

    Batch norms that are frozen keep their statistics. `torch.optim.swa_utils.update_bn` does the same for models whose
    loss is a function of ``model(x)``, and for all batch norms.

    Parameters
    ----------
    parts : iterable
        Batches, or parts of batches.
    forward : callable
        Passes a part through the model, as in training.
    seed : int
        Seed of dropout. The state of the random numbers does not change.
    """
    was_training = model.training
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    # Without batch norms there is nothing to compute.
    if not norms:
        model.train(was_training)
        return
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            # None is the cumulative average.
            norm.momentum = None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for part in parts:
                forward(part)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)


@torch.no_grad()
def _joint_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return number, mean (C,) and variance (C,) of the values of each channel in all processes, in float64."""
    dims = _all_but_channels(x)
    variance, mean = torch.var_mean(x.to(_at_least_float32(x)), dims, correction=0)
    # In float64, the square of the mean can be subtracted again.
    mean = mean.double()
    variance = variance.double()
    count = torch.full_like(mean, x.numel() // x.shape[1])
    sums = torch.stack([count, count * mean, count * (variance + mean.square())])
    all_reduce(sums)
    joint_mean = sums[1] / sums[0]
    joint_variance = (sums[2] / sums[0] - joint_mean.square()).clamp(min=0.0)
    return sums[0, 0], joint_mean, joint_variance


@torch.no_grad()
def _update(module: _BatchNorm, count: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics."""
    assert module.running_mean is not None
    assert module.running_var is not None
    assert module.num_batches_tracked is not None
    module.num_batches_tracked.add_(1)
    momentum = module.momentum
    if momentum is None:
        # Device-to-host sync. Only `recompute_statistics` uses a cumulative average.
        momentum = 1.0 / float(module.num_batches_tracked)
    module.running_mean.lerp_(mean.to(module.running_mean.dtype), momentum)
    unbiased = variance * count / (count - 1)
    module.running_var.lerp_(unbiased.to(module.running_var.dtype), momentum)


class _Normalize(torch.autograd.Function):
    """``(x - mean) · scale``, where mean and scale depend on the records of all processes.

    With y = (x - mean) · scale and the gradient g of y, the gradient of x is ``scale (g - mean(g) - y mean(g y))``
    (Ioffe and Szegedy 2015, section 3). Both means are over the values of a channel in all processes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, scale: Tensor, count: Tensor) -> Tensor:
        y = (x.to(mean.dtype) - _per_channel(mean, x)) * _per_channel(scale, x)
        ctx.save_for_backward(y, scale, count)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        y, scale, count = ctx.saved_tensors
        dims = _all_but_channels(y)
        sums = torch.stack([gradient.sum(dims), (gradient * y).sum(dims)])
        all_reduce(sums)
        means = sums / count.to(sums.dtype)
        centred = gradient - _per_channel(means[0], y) - y * _per_channel(means[1], y)
        return centred * _per_channel(scale, y), None, None, None


def _at_least_float32(x: Tensor) -> torch.dtype:
    """Return the data type in which the values are normalized."""
    return torch.promote_types(x.dtype, torch.float32)


def _all_but_channels(x: Tensor) -> list[int]:
    return [dim for dim in range(x.ndim) if dim != 1]


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Return values (C,) in a shape that is multiplied with (n, C, ...)."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
