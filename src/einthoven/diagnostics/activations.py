"""What flows between the stages: how much it varies, which units never speak, how widely attention looks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from einthoven.functional.information import categorical_entropy

Moments = tuple[int, Tensor, Tensor]  # number of values, their mean, their variance (over the number)
T = TypeVar("T")


class Watch(Generic[T]):
    """Sees what modules give in the passes of a training step, where that step is due.

    Parameters
    ----------
    modules : iterable of (str, Module)
        What is seen of one that gives no single tensor, as a bare recurrent layer, is nothing.
    every : int or None
        Steps between two measurements; None: never.
    look : callable
        What to note of an output.
    """

    def __init__(
        self, modules: Iterable[tuple[str, nn.Module]], every: int | None, look: Callable[[Tensor], T]
    ) -> None:
        self._modules, self._every, self._look = list(modules), every, look
        self._seen: dict[str, list[T]] = {}
        self.expect(0)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at forward passes inside this block, and leave no hook in the network behind."""
        watched = () if self._every is None else self._modules
        handles = [module.register_forward_hook(self._hook(name)) for name, module in watched]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def expect(self, step: int | None) -> None:
        """Measure the coming passes if that is due at `step`; None: they belong to no step."""
        self._due = self._every is not None and step is not None and step % self._every == 0

    def seen(self) -> dict[str, list[T]]:
        """What was noted of each module since this was asked last, pass by pass."""
        seen, self._seen = self._seen, {}
        return seen

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], object], None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            if self._due and module.training and isinstance(output, Tensor):
                self._seen.setdefault(name, []).append(self._look(output.detach()))

        return note


class ActivationVariance(Watch[Moments]):
    """Variance of each stage's output in a training step, over records, channels and time.

    Parameters
    ----------
    network : Module
        Its direct children are the stages.
    every : int or None
        Steps between two measurements; None: never.
    """

    def __init__(self, network: nn.Module, every: int | None) -> None:
        super().__init__(network.named_children(), every, moments)

    def take(self) -> dict[str, Tensor]:
        """``watch/act/variance/<stage>`` of what was measured, as device tensors; empty if nothing was."""
        return {f"watch/act/variance/{name}": pooled_variance(passes) for name, passes in self.seen().items()}


class DeadUnits(Watch[Tensor]):
    """Share of the units of a stage's rectifiers (ReLU) that are zero for the whole batch.

    A unit is a channel of an image ``[B, C, H, W]``, and otherwise an entry of the last dimension, as of tokens ``[B,
    N, D]``; it is dead if it is zero for every record, wherever it was looked at. Its gradient is zero then, and so is
    that of all weights before it that feed no other. Other activation functions have no zero to stay at: stages
    without a ReLU are left out.

    Parameters
    ----------
    network : Module
        Its direct children are the stages.
    every : int or None
        Steps between two measurements; None: never.
    """

    def __init__(self, network: nn.Module, every: int | None) -> None:
        rectifiers = (
            (f"{stage}/{name}", module)
            for stage, child in network.named_children()
            for name, module in child.named_modules()
            if isinstance(module, nn.ReLU)
        )
        super().__init__(rectifiers, every, largest_of_units)

    def take(self) -> dict[str, Tensor]:
        """``watch/act/dead/<stage>`` of what was measured, as device tensors; empty if nothing was."""
        stages: dict[str, list[Tensor]] = {}
        for name, passes in self.seen().items():
            stages.setdefault(name.partition("/")[0], []).append(torch.stack(passes).amax(dim=0) <= 0)
        return {f"watch/act/dead/{stage}": torch.cat(dead).float().mean() for stage, dead in stages.items()}


def moments(values: Tensor) -> Moments:
    """Number, mean and variance of all values."""
    variance, mean = torch.var_mean(values.float(), correction=0)
    return values.numel(), mean, variance


def pooled_variance(parts: Sequence[Moments]) -> Tensor:
    """Unbiased variance of all values of several parts: within the parts, and between their means."""
    count = sum(n for n, _, _ in parts)
    mean = torch.stack([n / count * m for n, m, _ in parts]).sum()
    return torch.stack([n * (v + (m - mean).square()) for n, m, v in parts]).sum() / (count - 1)


def largest_of_units(values: Tensor) -> Tensor:
    """Largest value of each unit, as `DeadUnits` counts them."""
    units = 1 if values.ndim == 4 else values.ndim - 1
    return values.amax(dim=[d for d in range(values.ndim) if d != units])


@torch.no_grad()
def attention_entropy(maps: Mapping[str, Tensor]) -> dict[str, float]:
    """Entropy of the weights with which a token reads the others, in nats; the mean over tokens and records.

    0 where each token reads one token, log N where a head reads all N alike and so tells nothing of where things are
    (Zhai et al. 2023, "Stabilizing transformer training by preventing attention entropy collapse").

    Parameters
    ----------
    maps
        Map name -> weights ``[B, heads, N, N]``, rows summing to 1.

    Returns
    -------
    dict
        ``watch/act/attention_entropy/<map>/<head>``, heads counted from 1, and
        ``watch/act/attention_entropy_uniform/<map>``, the log N to compare it with.
    """
    told: dict[str, float] = {}
    for name, weights in maps.items():
        heads = categorical_entropy(weights.float()).mean(dim=(0, 2))
        told |= {f"watch/act/attention_entropy/{name}/{h}": value for h, value in enumerate(heads.tolist(), 1)}
        told[f"watch/act/attention_entropy_uniform/{name}"] = math.log(weights.shape[-1])
    return told
