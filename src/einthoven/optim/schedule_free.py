"""Schedule-free AdamW: an average of the iterates does what a decaying learning rate does elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from einthoven.errors import UserError

LEAST_BETA = 0.001  # x is y plus the distance of z divided by β₁, which rounding takes over where β₁ is small


class ScheduleFreeAdamW(Optimizer):
    """AdamW steps on z, gradients at y, evaluation at their average x.

    Defazio et al., "The road less scheduled", 2024, algorithm 1 (with their practical choices, section 4)::

        y = (1 - β₁) z + β₁ x
        z ← z - γ (g(y) / (sqrt(v̂) + ε) + weight_decay y)          v̂: Adam's second moment, rate β₂, unbiased
        x ← (1 - c) x + c z                                        c = γ² / Σ γ²

    No step at which training will end enters anywhere. The model holds y while it trains; `eval` turns its
    weights into x, `train` turns them back, and only z is kept beside them.

    Parameters
    ----------
    params
        Parameter groups.
    lr, betas, eps, weight_decay
        γ, (β₁, β₂) and ε as above. A schedule may move γ between steps, as a warm-up does: the weights of the
        average follow it.

    Raises
    ------
    UserError
        If β₁ is 0 or nearly: x could not be computed from y and z.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if betas[0] < LEAST_BETA:
            raise UserError(
                f"optimizer: betas[0] must be at least {LEAST_BETA} for schedule_free_adamw, found {betas[0]}"
            )
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "steps": 0,
                "lr_squares": 0.0,
                "training": True,
            },
        )

    def train(self) -> None:
        """Turn the model's weights into y, where gradients are taken."""
        self._move(lambda beta: 1.0 - beta, training=True)

    def eval(self) -> None:
        """Turn the model's weights into x, the average, which is to be evaluated, saved and used."""
        self._move(lambda beta: 1.0 - 1.0 / beta, training=False)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate `closure` once, if given, then take one step; the value is the closure's."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            assert group["training"], "a step is taken at y: call train() before it"
            lr, (first, second) = group["lr"], group["betas"]
            group["steps"] += 1
            group["lr_squares"] += lr * lr
            share = lr * lr / group["lr_squares"] if group["lr_squares"] else 0.0
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            for parameter in moved:
                if not self.state[parameter]:
                    self.state[parameter] = {"z": parameter.clone(), "square": torch.zeros_like(parameter)}
            gradients = [p.grad for p in moved]
            z = [self.state[p]["z"] for p in moved]
            squares = [self.state[p]["square"] for p in moved]
            torch._foreach_mul_(squares, second)
            torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - second)
            unbiased = torch._foreach_div(squares, 1.0 - second ** group["steps"])
            torch._foreach_sqrt_(unbiased)
            torch._foreach_add_(unbiased, group["eps"])
            directions = torch._foreach_div(gradients, unbiased)
            torch._foreach_add_(directions, moved, alpha=group["weight_decay"])
            # y = (1 - β) z + β x after z and x have moved, without x: first towards z by the share of the
            # average, then along the direction by what is left of z's step.
            torch._foreach_lerp_(moved, z, share)
            torch._foreach_add_(moved, directions, alpha=lr * (first * (1.0 - share) - 1.0))
            torch._foreach_add_(z, directions, alpha=-lr)
        return loss

    @torch.no_grad()
    def _move(self, towards_z: Callable[[float], float], *, training: bool) -> None:
        for group in self.param_groups:
            if group["training"] != training:
                moved = [p for p in group["params"] if "z" in self.state[p]]
                if moved:
                    torch._foreach_lerp_(moved, [self.state[p]["z"] for p in moved], towards_z(group["betas"][0]))
                group["training"] = training
