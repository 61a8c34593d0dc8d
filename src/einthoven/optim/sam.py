"""Sharpness-aware minimization with any base optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from einthoven.optim.groups import check


def sam(model: nn.Module, *, base: Callable[[nn.Module], Optimizer], rho: float = 0.05) -> Optimizer:
    """Build an optimizer that takes the steps of a base optimizer with the gradient of the worst loss nearby.

    See `SAM`.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    base
        Builds the optimizer that takes the steps. It has the learning rate and the weight decay.
    rho
        Radius of the neighbourhood, in the units of the weights.
    """
    check(rho=rho)
    return SAM(model, base(model), rho)


class SAM(Optimizer):
    """Minimize the largest loss within `rho` of the weights, to first order.

    Foret et al., "Sharpness-aware minimization for efficiently improving generalization", 2021, algorithm 1
    and equation 2 (p = 2): ``ε = rho g / ‖g‖``, then a step of `base` from w with the gradient at w + ε. A step needs
    two gradients, so it takes about twice the time.

    The second forward pass must not update the batch-norm statistics: the buffers keep their values from the pass at w.
    The training loop makes the closure draw the same dropout masks twice, so that both gradients belong to the same
    function.

    Parameter groups and state are the same objects as in the base, so a schedule and a checkpoint act on the base.

    Parameters
    ----------
    model
        Its buffers are restored after the second pass.
    base
        Optimizer of the parameters of the model.
    rho
        Radius.
    """

    def __init__(self, model: nn.Module, base: Optimizer, rho: float) -> None:
        super().__init__(base.param_groups, {})
        self._model = model
        self.base = base
        self._rho = rho
        self._share_with_base()
        # A base such as `ScheduleFreeAdamW` has a training mode and an evaluation mode.
        if hasattr(base, "eval"):
            self.train = base.train  # type: ignore[attr-defined]
            self.eval = base.eval

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate `closure` at w and at w + ε, then step from w. Return the loss at w.

        Raises
        ------
        TypeError
            If there is no closure, which the second gradient needs.
        """
        if closure is None:
            raise TypeError("SAM takes two gradients a step: give step() a closure")
        with torch.enable_grad():
            loss = closure()
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if parameters:
            weights = [p.clone() for p in parameters]
            buffers = list(self._model.buffers())
            statistics = [buffer.clone() for buffer in buffers]

            # Move to w + ε.
            gradients = [p.grad for p in parameters]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            torch._foreach_add_(parameters, torch._foreach_mul(gradients, self._rho / (norm + 1e-12)))

            # The closure raises an exception if the gradient is not finite. The weights go back to w in any case, by a
            # copy, because subtracting ε would round.
            try:
                with torch.enable_grad():
                    closure()
            finally:
                torch._foreach_copy_(parameters, weights)
            for buffer, values in zip(buffers, statistics, strict=True):
                buffer.copy_(values)
        self.base.step()
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from the result of `state_dict`."""
        self.base.load_state_dict(dict(state_dict))
        self._share_with_base()

    def _share_with_base(self) -> None:
        """Use the parameter groups and the state of the base, which `load_state_dict` replaces."""
        self.param_groups = self.base.param_groups
        self.state = self.base.state
