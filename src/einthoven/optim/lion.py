"""Lion, an optimizer that steps along a sign. It was found by a program search."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class Lion(Optimizer):
    """EvoLved sIgn mOmeNtum: Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2.

    ::

        w ← w - lr (sign(β₁ m + (1 - β₁) g) + weight_decay w)
        m ← β₂ m + (1 - β₂) g

    It keeps one running mean per weight. Adam keeps two.

    Parameters
    ----------
    params
        Parameter groups.
    lr, betas, weight_decay
        Learning rate, (β₁, β₂) and decay of the formulas above.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate `closure` once, if there is one, then take one step. Return the value of the closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            gradients = [p.grad for p in parameters]
            momenta = [self.state[p]["momentum"] for p in parameters]
            lr = group["lr"]
            beta1, beta2 = group["betas"]

            # w ← w - lr (sign(β₁ m + (1 - β₁) g) + weight_decay w)
            torch._foreach_mul_(parameters, 1.0 - lr * group["weight_decay"])
            directions = torch._foreach_lerp(gradients, momenta, beta1)
            torch._foreach_add_(parameters, torch._foreach_sign(directions), alpha=-lr)

            # m ← β₂ m + (1 - β₂) g
            torch._foreach_lerp_(momenta, gradients, 1.0 - beta2)
        return loss
