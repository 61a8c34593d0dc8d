"""Lion, an optimizer that was found by a program search: every step is a sign."""

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

    One moment in memory, where Adam keeps two.

    Parameters
    ----------
    params
        Parameter groups.
    lr, betas, weight_decay
        As above.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate `closure` once, if given, then take one step; the value is the closure's."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            for parameter in moved:
                if not self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            gradients = [p.grad for p in moved]
            momenta = [self.state[p]["momentum"] for p in moved]
            lr, (first, second) = group["lr"], group["betas"]
            torch._foreach_mul_(moved, 1.0 - lr * group["weight_decay"])
            directions = torch._foreach_lerp(gradients, momenta, first)
            torch._foreach_add_(moved, torch._foreach_sign(directions), alpha=-lr)
            torch._foreach_lerp_(momenta, gradients, 1.0 - second)
        return loss
