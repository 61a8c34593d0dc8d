"""Sharpness-aware minimization around any optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from einthoven.optim.groups import check


def sam(model: nn.Module, *, base: Callable[[nn.Module], Optimizer], rho: float = 0.05) -> Optimizer:
    """Take the steps of another optimizer with the gradient of the worst loss nearby; see `SAM`.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    base
        Makes the optimizer that takes the steps; the learning rate and the decay are its own.
    rho
        Radius of the neighbourhood, in the units of the weights.
    """
    check(rho=rho)
    return SAM(model, base(model), rho)


class SAM(Optimizer):
    """Minimize the largest loss within `rho` of the weights, to first order.

    Foret et al., "Sharpness-aware minimization for efficiently improving generalization", 2021, algorithm 1
    and equation 2 (p = 2): ``ε = rho g / ‖g‖``, then a step of `base` from w with the gradient at w + ε. Two
    gradients a step, so about twice the time.

    The loss at w + ε is a question put to the model, not a sight of the data: running statistics are left as
    the pass at w left them. The closure draws the same dropout masks both times (the training loop sees to
    it), so that both gradients are of one function.

    Groups and state are the base's own: a schedule and a checkpoint act on them.

    Parameters
    ----------
    model
        For its buffers.
    base
        Over the model's parameters.
    rho
        Radius.
    """

    def __init__(self, model: nn.Module, base: Optimizer, rho: float) -> None:
        super().__init__(base.param_groups, {})
        self._model, self._base, self._rho = model, base, rho
        self._share()
        if hasattr(base, "eval"):  # the modes of a base that has them, such as `ScheduleFreeAdamW`
            self.train, self.eval = base.train, base.eval  # type: ignore[attr-defined]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate `closure` at w and at w + ε, then step from w; the value is the loss at w.

        Raises
        ------
        TypeError
            Without a closure: the second gradient could not be taken.
        """
        if closure is None:
            raise TypeError("SAM takes two gradients a step: give step() a closure")
        with torch.enable_grad():
            loss = closure()
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if moved:
            weights, buffers = [p.clone() for p in moved], list(self._model.buffers())
            statistics = [buffer.clone() for buffer in buffers]
            gradients = [p.grad for p in moved]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            torch._foreach_add_(moved, torch._foreach_mul(gradients, self._rho / (norm + 1e-12)))
            try:
                with torch.enable_grad():
                    closure()
            finally:  # the training loop leaves the closure where the gradient is not finite
                torch._foreach_copy_(moved, weights)  # not a subtraction, which would round
            for buffer, kept in zip(buffers, statistics, strict=True):
                buffer.copy_(kept)
        self._base.step()
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from `state_dict`, which is the base's."""
        self._base.load_state_dict(dict(state_dict))
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self._base.param_groups, self._base.state
