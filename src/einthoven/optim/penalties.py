"""Penalties on the size of the weights: L1, L2, and L1 with its proximal step.

A penalty is a prior. If the loss of a record is its negative log-likelihood, the weights that minimize
``mean loss + penalty`` over n records have the highest posterior probability for a prior ∝ exp(-n · penalty). For L2
the prior is a Gaussian of variance ``1 / (n strength)``, for L1 a Laplace distribution of scale ``1 / (n strength)``
(Bishop, "Pattern recognition and machine learning", 2006, section 3.3). This holds with a single label. With K labels
the loss of a record is its negative log-likelihood divided by K (the mean over the classes). Then the variance and the
scale are ``1 / (n K strength)``.

Like weight decay, penalties do not act on biases, gains of norms and other parameters of fewer than 2 dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from einthoven.contracts import Task
from einthoven.errors import UserError


class Penalty:
    """No penalty. It is the base class of the penalties."""

    needs_base: ClassVar[bool] = False
    """Whether the penalty needs a run with ``init_from``."""

    def wrap(self, task: Task) -> Task:
        """Return the task of the training. A penalty on predictions adds its gradient to that of the loss."""
        return task

    def check(self, optimizer: Optimizer) -> None:
        """Raise a `UserError` if the penalty cannot be used with an optimizer."""

    def loss(self, model: nn.Module) -> Tensor | None:
        """Return the term that is added to the loss, or None if there is none."""
        return None

    def after_step(self, optimizer: Optimizer) -> None:
        """Change the weights after a step of the optimizer."""

    def metrics(self, model: nn.Module) -> dict[str, Tensor]:
        """Return metrics of an epoch, as device tensors."""
        return {}


@dataclass(frozen=True)
class _Shrinkage(Penalty):
    """Base class of penalties with a strength, which log the share of zero weights."""

    strength: float

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0.0 <= self.strength < float("inf"):
            raise UserError(f"penalty.strength={self.strength}: expected a number of at least 0.")

    def metrics(self, model: nn.Module) -> dict[str, Tensor]:
        """Return ``watch/weight/zeros``, the share of exact zeros among the _penalized weights."""
        return {"watch/weight/zeros": share_of_zeros(model)}


class L2(_Shrinkage):
    """``strength / 2 · Σ w²``. Its gradient is ``strength · w``: coupled weight decay."""

    def loss(self, model: nn.Module) -> Tensor:
        """Return the penalty."""
        return self.strength / 2 * torch.stack([w.square().sum() for w in _penalized(model)]).sum()


class L1(_Shrinkage):
    """``strength · Σ |w|``, minimized with its subgradient ``strength · sign(w)``.

    Weights come near zero and then step over it again and again. With `ProximalL1` they become exactly zero.
    """

    def loss(self, model: nn.Module) -> Tensor:
        """Return the penalty."""
        return self.strength * torch.stack([w.abs().sum() for w in _penalized(model)]).sum()


class ProximalL1(_Shrinkage):
    """``strength · Σ |w|``, minimized by soft-thresholding each step: ``w ← sign(w) max(|w| - lr · strength, 0)``.

    This is the proximal operator of ``lr · strength · ‖w‖₁`` with the current learning rate (Beck & Teboulle, "A fast
    iterative shrinkage-thresholding algorithm", 2009, equation 1.4, ISTA). Weights become exactly zero.

    With plain gradient descent it minimizes ``loss + strength · ‖w‖₁``. With momentum μ, the steps grow to
    ``lr / (1 - μ)`` of the gradient, but the threshold does not grow. So the effective strength is
    ``(1 - μ) strength``. An optimizer that scales coordinates by D moves along ``lr D⁻¹ g``. The proximal operator in
    that scale has the threshold ``lr · strength / D`` (Yun et al., "Adaptive proximal gradient methods for structured
    neural networks", 2021). Here every weight loses the same ``lr · strength``, so that D does not weaken the penalty
    where gradients are large. AdamW treats L2 in the same way with its decoupled weight decay. At a fixed point,
    `strength` balances the scaled gradient, not the gradient.
    """

    def check(self, optimizer: Optimizer) -> None:
        """Refuse an optimizer that evaluates an average of its weights. Such averages are not exactly zero."""
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


def _penalized(model: nn.Module) -> list[nn.Parameter]:
    """Return the trainable parameters of 2 or more dimensions."""
    return [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]


def share_of_zeros(model: nn.Module) -> Tensor:
    """Return the share of exact zeros among the _penalized weights."""
    weights = _penalized(model)
    zeros = torch.stack([(w == 0).sum() for w in weights]).sum()
    return zeros / sum(w.numel() for w in weights)
