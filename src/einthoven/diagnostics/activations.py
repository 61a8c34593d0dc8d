"""What flows between the stages: the variance of their outputs, which an initialization is meant to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ActivationVariance:
    """Variance of each stage's output in a forward pass, over records, channels and time.

    Parameters
    ----------
    network : Module
        Its direct children are the stages.
    every : int or None
        Steps between two measurements; None: never.
    """

    def __init__(self, network: nn.Module, every: int | None) -> None:
        self._network, self._every = network, every
        self._seen: dict[str, Tensor] = {}
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

    def expect(self, step: int) -> None:
        """Measure the coming passes if that is due at `step`."""
        self._due = self._every is not None and step % self._every == 0

    def take(self) -> dict[str, Tensor]:
        """``act/variance/<stage>`` of the pass that was measured, as device tensors; empty if none was."""
        seen, self._seen = self._seen, {}
        return seen

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(stage: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self._due and stage.training:
                with torch.no_grad():
                    self._seen[f"act/variance/{name}"] = output.detach().float().var()

        return note
