"""Schedule-free AdamW: an average of the weights replaces a decaying learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from einthoven.errors import UserError

LEAST_BETA = 0.001
"""Smallest β₁. The average x is z plus the distance from z to y divided by β₁, which amplifies rounding errors."""


class ScheduleFreeAdamW(Optimizer):
    """AdamW steps on z, gradients at y, evaluation at their average x.

    Defazio et al., "The road less scheduled", 2024, algorithm 1 (with their practical choices, section 4)::

        y = (1 - β₁) z + β₁ x
        z ← z - γ (g(y) / (sqrt(v̂) + ε) + weight_decay y)          v̂: Adam's second moment, rate β₂, unbiased
        x ← (1 - c) x + c z                                        c = γ² / Σ γ²

    The formulas do not contain the number of steps of the training. The model holds y while it trains. `eval` replaces
    its weights by x, and `train` restores y. Only z is stored in addition.

    Parameters
    ----------
    params
        Parameter groups.
    lr, betas, eps, weight_decay
        γ, (β₁, β₂), ε and decay of the formulas above. A schedule may change γ between steps, as a warm-up does. The
        weights of the average follow it.

    Raises
    ------
    UserError
        If β₁ is so small that x cannot be computed from y and z.
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
        """Replace the weights of the model by y, the point of the gradients."""
        self._switch(lambda beta: 1.0 - beta, training=True)

    def eval(self) -> None:
        """Replace the weights of the model by x, the average that is evaluated and saved."""
        self._switch(lambda beta: 1.0 - 1.0 / beta, training=False)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Evaluate `closure` once, if there is one, then take one step. Return the value of the closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            assert group["training"], "a step is taken at y: call train() before it"
            lr = group["lr"]
            beta1, beta2 = group["betas"]

            # c, the weight of this step in the average
            group["steps"] += 1
            group["lr_squares"] += lr * lr
            share = lr * lr / group["lr_squares"] if group["lr_squares"] else 0.0

            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter] = {"z": parameter.clone(), "square": torch.zeros_like(parameter)}
            gradients = [p.grad for p in parameters]
            z = [self.state[p]["z"] for p in parameters]
            squares = [self.state[p]["square"] for p in parameters]

            # direction = g / (sqrt(v̂) + ε) + weight_decay y
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - beta2)
            denominators = torch._foreach_div(squares, 1.0 - beta2 ** group["steps"])
            torch._foreach_sqrt_(denominators)
            torch._foreach_add_(denominators, group["eps"])
            directions = torch._foreach_div(gradients, denominators)
            torch._foreach_add_(directions, parameters, alpha=group["weight_decay"])

            # Update y without computing x. After the updates of z and x, y = (1 - β₁) z + β₁ x. This is a move towards
            # the old z by the share c, and then a move along the direction.
            torch._foreach_lerp_(parameters, z, share)
            torch._foreach_add_(parameters, directions, alpha=lr * (beta1 * (1.0 - share) - 1.0))
            torch._foreach_add_(z, directions, alpha=-lr)
        return loss

    @torch.no_grad()
    def _switch(self, share_of_z: Callable[[float], float], *, training: bool) -> None:
        """Move the weights between y and x: towards z by a share that depends on β₁."""
        for group in self.param_groups:
            if group["training"] == training:
                continue
            parameters = [p for p in group["params"] if "z" in self.state[p]]
            if parameters:
                z = [self.state[p]["z"] for p in parameters]
                torch._foreach_lerp_(parameters, z, share_of_z(group["betas"][0]))
            group["training"] = training
