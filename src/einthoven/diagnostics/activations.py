"""Statistics of activations: variance of the stages, dead units, entropy of the attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from einthoven.contracts import ONE_PROCESS, Processes
from einthoven.functional.information import categorical_entropy

Moments = tuple[int, Tensor, Tensor]  # number of values, their mean, their mean squared deviation
T = TypeVar("T")


class _OutputHooks(Generic[T]):
    """Forward hooks that summarize the outputs of modules, in the training steps in which a measurement is due.

    In the other steps the modules have no hooks: a compiled model runs its compiled code only without hooks.

    Parameters
    ----------
    modules : iterable of (str, Module)
        Modules to measure, with their names. An output that is not a single tensor is ignored, for example the output
        of a recurrent layer.
    interval : int or None
        Number of steps from one measurement to the next; None turns it off.
    summarize : callable
        Function of an output that returns its summary.
    """

    def __init__(
        self, modules: Iterable[tuple[str, nn.Module]], interval: int | None, summarize: Callable[[Tensor], T]
    ) -> None:
        self._modules = list(modules)
        self._interval = interval
        self._summarize = summarize
        self._summaries: dict[str, list[T]] = {}
        self._is_measuring = False
        self._handles: list[RemovableHandle] = []
        self.set_step(0)

    @contextmanager
    def attach_hooks(self) -> Iterator[None]:
        """Measure the forward passes inside this block. The hooks are removed at its end."""
        self._is_measuring = True
        self._renew_hooks()
        try:
            yield
        finally:
            self._is_measuring = False
            self._renew_hooks()

    def set_step(self, step: int | None) -> None:
        """Measure the next forward passes if a measurement is due in `step`. Without a step, they are not measured."""
        self._is_due = self._interval is not None and step is not None and step % self._interval == 0
        self._renew_hooks()

    def _renew_hooks(self) -> None:
        """Give the modules their hooks if a measurement is due, and remove them otherwise."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._is_due and self._is_measuring:
            for name, module in self._modules:
                self._handles.append(module.register_forward_hook(partial(self._save_summary, name)))

    def take_summaries(self) -> dict[str, list[T]]:
        """Return the summaries of each module, one per forward pass, and forget them."""
        summaries = self._summaries
        self._summaries = {}
        return summaries

    def _save_summary(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if module.training and isinstance(output, Tensor):
            summary = self._summarize(output.detach())
            self._summaries.setdefault(name, []).append(summary)


class ActivationVariance(_OutputHooks[Moments]):
    """Variance of the output of each stage in a training step, over records, channels and time.

    Parameters
    ----------
    network : Module
        Its direct children are the stages.
    interval : int or None
        Number of steps from one measurement to the next; None turns it off.
    processes : Processes
        The processes whose records are measured.
    """

    def __init__(self, network: nn.Module, interval: int | None, processes: Processes = ONE_PROCESS) -> None:
        super().__init__(network.named_children(), interval, moments)
        self._processes = processes

    def take_metrics(self) -> dict[str, Tensor]:
        """Return ``watch/act/variance/<stage>`` as device tensors; empty if nothing was measured."""
        variances = {}
        for name, parts in self.take_summaries().items():
            counts = self._processes.gather_numbers([count for count, _, _ in parts])
            means = self._processes.gather(torch.stack([mean for _, mean, _ in parts]))
            squares = self._processes.gather(torch.stack([variance for _, _, variance in parts]))
            all_parts = list(zip(counts, means, squares, strict=True))
            variances[f"watch/act/variance/{name}"] = _pooled_variance(all_parts)
        return variances


class DeadUnits(_OutputHooks[Tensor]):
    """Share of the ReLU units of a stage that are zero for the whole batch.

    In an image ``[B, C, H, W]``, a unit is a channel. In other outputs, such as tokens ``[B, N, D]``, it is an entry of
    the last dimension. A unit is dead if it is zero for every record and every position. Weights that lead only to dead
    units get no gradient. Stages without a ReLU are left out, because other activation functions are not constant at
    zero.

    Parameters
    ----------
    network : Module
        Its direct children are the stages.
    interval : int or None
        Number of steps from one measurement to the next; None turns it off.
    processes : Processes
        The processes whose records are measured.
    """

    def __init__(self, network: nn.Module, interval: int | None, processes: Processes = ONE_PROCESS) -> None:
        self._processes = processes
        rectifiers = []
        for stage, child in network.named_children():
            for name, module in child.named_modules():
                if isinstance(module, nn.ReLU):
                    rectifiers.append((f"{stage}/{name}", module))
        super().__init__(rectifiers, interval, _unit_maxima)

    def take_metrics(self) -> dict[str, Tensor]:
        """Return ``watch/act/dead/<stage>`` as device tensors; empty if nothing was measured."""
        dead_units: dict[str, list[Tensor]] = {}
        for name, maxima in self.take_summaries().items():
            # A unit is dead if it is zero in all forward passes of the step.
            is_dead = self._processes.gather(torch.stack(maxima)).amax(dim=0) <= 0
            stage = name.partition("/")[0]
            dead_units.setdefault(stage, []).append(is_dead)
        return {f"watch/act/dead/{stage}": torch.cat(units).float().mean() for stage, units in dead_units.items()}


def moments(values: Tensor) -> Moments:
    """Return number, mean and variance of all values."""
    variance, mean = torch.var_mean(values.float(), correction=0)
    return values.numel(), mean, variance


def _pooled_variance(parts: Sequence[Moments]) -> Tensor:
    """Return the unbiased variance of the values of all parts together.

    It is the variance inside the parts plus the variance between their means.
    """
    total = sum(n for n, _, _ in parts)
    mean = torch.stack([n / total * part_mean for n, part_mean, _ in parts]).sum()
    squares = [n * (variance + (part_mean - mean).square()) for n, part_mean, variance in parts]
    return torch.stack(squares).sum() / (total - 1)


def _unit_maxima(values: Tensor) -> Tensor:
    """Return the largest value of each unit; `DeadUnits` defines what a unit is."""
    unit_dim = 1 if values.ndim == 4 else values.ndim - 1
    return values.amax(dim=[dim for dim in range(values.ndim) if dim != unit_dim])


@torch.no_grad()
def attention_entropy(maps: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the entropy of the attention of each head in nats: the mean over the tokens and records.

    The entropy is 0 if each token attends to a single token. It is log N if a head gives all N tokens the same weight.
    Such a head reads no token more than another one (Zhai et al. 2023, "Stabilizing transformer training by
    preventing attention entropy collapse").

    Parameters
    ----------
    maps
        Name of a map -> weights ``[B, heads, N, N]``. Each row sums to 1.

    Returns
    -------
    dict
        ``watch/act/attention_entropy/<map>/<head>``, with heads counted from 1, and
        ``watch/act/attention_entropy_uniform/<map>``, the largest possible value log N.
    """
    metrics: dict[str, float] = {}
    for name, weights in maps.items():
        head_entropies = categorical_entropy(weights.float()).mean(dim=(0, 2))
        for head, value in enumerate(head_entropies.tolist(), 1):  # sync: once per map
            metrics[f"watch/act/attention_entropy/{name}/{head}"] = value
        metrics[f"watch/act/attention_entropy_uniform/{name}"] = math.log(weights.shape[-1])
    return metrics
