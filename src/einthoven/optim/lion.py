"""Lion, an optimizer that moves each weight by the sign of a mean gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class Lion(Optimizer):
    """Evolved sign momentum (Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2).

    ::

        w ← w - lr (sign(β₁ m + (1 - β₁) g) + weight_decay w)
        m ← β₂ m + (1 - β₂) g

    The authors found it by a search over programs. It stores one running mean m per weight. Adam stores two.

    Parameters
    ----------
    params
        Parameter groups.
    lr, betas, weight_decay
        The learning rate, (β₁, β₂), and the weight decay of these formulas.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Call `closure`, if there is one, and take one step. Return the result of the closure."""
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

            # w ← w - lr (sign(β₁ m + (1 - β₁) g) + weight_decay w); lerp(a, b, β) is (1 - β) a + β b.
            torch._foreach_mul_(parameters, 1.0 - lr * group["weight_decay"])
            directions = torch._foreach_lerp(gradients, momenta, beta1)
            torch._foreach_add_(parameters, torch._foreach_sign(directions), alpha=-lr)

            # m ← β₂ m + (1 - β₂) g
            torch._foreach_lerp_(momenta, gradients, 1.0 - beta2)
        return loss
