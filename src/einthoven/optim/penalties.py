"""Penalties on the size of the weights: L1, L2, and L1 by its proximal step.

A penalty is a prior. Where the loss of a record is its negative log-likelihood, the weights that minimize
``mean loss + penalty`` over n records are the most probable ones a posteriori, with a prior ∝ exp(-n · penalty):
Gaussian of variance ``1 / (n strength)`` for L2, Laplace of scale ``1 / (n strength)`` for L1 (Bishop, "Pattern
recognition and machine learning", 2006, section 3.3). That is so with a single label. With K labels the loss of a
record is the mean over the classes, so its negative log-likelihood over K: there the variance and the scale are
``1 / (n K strength)``.

As decay does, penalties leave biases, gains of norms and all else of fewer than 2 dimensions alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from einthoven.errors import UserError


class Penalty:
    """No penalty; the others differ from it in what they define."""

    def check(self, optimizer: Optimizer) -> None:
        """Refuse, with a `UserError`, an optimizer that the penalty cannot go with."""

    def loss(self, model: nn.Module) -> Tensor | None:
        """What is added to the loss, and so to the gradient; None for nothing."""
        return None

    def after_step(self, optimizer: Optimizer) -> None:
        """What is done to the weights after a step of the optimizer."""

    def metrics(self, model: nn.Module) -> dict[str, Tensor]:
        """What to tell once an epoch, as device tensors."""
        return {}


@dataclass(frozen=True)
class Shrinkage(Penalty):
    """What the penalties share: a strength, and a look at what it does to the weights."""

    strength: float

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0.0 <= self.strength < float("inf"):
            raise UserError(f"penalty.strength={self.strength}: expected a number of at least 0.")

    def metrics(self, model: nn.Module) -> dict[str, Tensor]:
        """``watch/weight/zeros``, the share of exact zeros among the penalized weights."""
        return {"watch/weight/zeros": share_of_zeros(model)}


class L2(Shrinkage):
    """``strength / 2 · Σ w²``: its gradient is ``strength · w``, the coupled decay of weights."""

    def loss(self, model: nn.Module) -> Tensor:
        """The penalty."""
        return self.strength / 2 * torch.stack([w.square().sum() for w in penalized(model)]).sum()


class L1(Shrinkage):
    """``strength · Σ |w|``, by its subgradient ``strength · sign(w)``.

    Weights come near zero and step over it, by turns from either side; `ProximalL1` lets them arrive.
    """

    def loss(self, model: nn.Module) -> Tensor:
        """The penalty."""
        return self.strength * torch.stack([w.abs().sum() for w in penalized(model)]).sum()


class ProximalL1(Shrinkage):
    """``strength · Σ |w|`` by soft-thresholding after each step: ``w ← sign(w) max(|w| - lr · strength, 0)``.

    The proximal operator of ``lr · strength · ‖w‖₁``, with the learning rate of the moment (Beck & Teboulle, "A
    fast iterative shrinkage-thresholding algorithm", 2009, equation 1.4, ISTA). Weights become exactly zero.

    With plain gradient descent it minimizes ``loss + strength · ‖w‖₁``. With momentum μ, steps grow to
    ``lr / (1 - μ)`` of the gradient and the threshold does not: it acts as a strength of ``(1 - μ) strength``. An
    optimizer that scales coordinates by D moves along ``lr D⁻¹ g``, whose own proximal operator would
    threshold by ``lr · strength / D`` (Yun et al., "Adaptive proximal gradient methods for structured neural
    networks", 2021). Here every weight loses the same ``lr · strength``, so that D does not weaken the penalty
    where gradients are large: to L1 what AdamW's decoupled decay is to L2. Its rest points balance
    `strength` against the scaled gradient, not the gradient.
    """

    def check(self, optimizer: Optimizer) -> None:
        """Refuse an optimizer that evaluates an average of its weights: averages are not exactly zero."""
        if hasattr(optimizer, "eval"):
            raise UserError(
                "penalty=l1_proximal sets weights to zero after each step, and this optimizer evaluates the average of "
                "many steps; use penalty=l1, or another optimizer."
            )

    @torch.no_grad()
    def after_step(self, optimizer: Optimizer) -> None:
        """Soft-threshold the weights of each parameter group by its learning rate times the strength."""
        for group in optimizer.param_groups:
            weights = [p for p in group["params"] if p.ndim >= 2]
            if weights:
                signs = torch._foreach_sign(weights)
                sizes = torch._foreach_abs(weights)
                torch._foreach_sub_(sizes, group["lr"] * self.strength)
                torch._foreach_clamp_min_(sizes, 0.0)
                torch._foreach_copy_(weights, torch._foreach_mul(sizes, signs))


def penalized(model: nn.Module) -> list[nn.Parameter]:
    """Trainable parameters of 2 or more dimensions."""
    return [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]


def share_of_zeros(model: nn.Module) -> Tensor:
    """Share of exact zeros among the penalized weights."""
    weights = penalized(model)
    zeros = torch.stack([(w == 0).sum() for w in weights]).sum()
    return zeros / sum(w.numel() for w in weights)
