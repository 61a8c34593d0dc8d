"""What flows between the stages: the variance of their outputs, which an initialization is meant to keep."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Moments = tuple[int, Tensor, Tensor]  # number of values, their mean, their variance (over the number)


class ActivationVariance:
    """Variance of each stage's output in a training step, over records, channels and time.

    Parameters
    ----------
    network : Module
        Its direct children are the stages. One that gives no single tensor, as a bare recurrent layer, is left out.
    every : int or None
        Steps between two measurements; None: never.
    passes : int
        Forward passes in which a step reads its batch: the last so many are measured together. What an optimizer
        asked for after the step before, as SAM does, lies further back.
    """

    def __init__(self, network: nn.Module, every: int | None, passes: int = 1) -> None:
        self._network, self._every, self._passes = network, every, passes
        self._seen: dict[str, deque[Moments]] = {}
        self.expect(0)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at forward passes inside this block, and leave no hook in the network behind."""
        stages = () if self._every is None else self._network.named_children()
        handles = [stage.register_forward_hook(self._hook(name)) for name, stage in stages]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def expect(self, step: int | None) -> None:
        """Measure the coming passes if that is due at `step`; None: they belong to no step."""
        self._due = self._every is not None and step is not None and step % self._every == 0

    def take(self) -> dict[str, Tensor]:
        """``act/variance/<stage>`` of what was measured, as device tensors; empty if nothing was."""
        seen, self._seen = self._seen, {}
        return {f"act/variance/{name}": pooled_variance(passes) for name, passes in seen.items()}

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], object], None]:
        def note(stage: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            if self._due and stage.training and isinstance(output, Tensor):
                variance, mean = torch.var_mean(output.detach().float(), correction=0)
                self._seen.setdefault(name, deque(maxlen=self._passes)).append((output.numel(), mean, variance))

        return note


def pooled_variance(parts: Sequence[Moments]) -> Tensor:
    """Unbiased variance of all values of several parts: within the parts, and between their means."""
    count = sum(n for n, _, _ in parts)
    mean = torch.stack([n / count * m for n, m, _ in parts]).sum()
    return torch.stack([n * (v + (m - mean).square()) for n, m, v in parts]).sum() / (count - 1)
