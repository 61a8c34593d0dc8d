"""Parts that all optimizers share: parameter groups, the base learning rate, checks of the options."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from einthoven.errors import UserError

LARGEST = torch.finfo(torch.float32).max


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into a group with weight decay and a group without it.

    Biases, the gains of norms and all other parameters of fewer than 2 dimensions do not decay: pulling them to zero
    removes no capacity and biases the fit.

    Parameters
    ----------
    model
        Each of its trainable parameters is taken once, in the order of ``model.named_parameters()``.
    weight_decay
        Decay of the weights of 2 or more dimensions.

    Returns
    -------
    list of dict
        Parameter groups for a torch optimizer. An empty group is left out.

    Raises
    ------
    ValueError
        If the model has no trainable parameter.
    """
    return decay_groups([p for p in model.parameters() if p.requires_grad], weight_decay)


def decay_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return the `parameter_groups` of a part of the parameters of a model."""
    if not parameters:
        raise ValueError("the model has no trainable parameter")
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def most_state_bytes(weights: int) -> int:
    """Return the largest allowed size of a checkpoint, in bytes, for a model whose weights take `weights` bytes.

    Most optimizers keep a few copies of the weights, and some keep up to a hundred. An optimizer that keeps a square
    matrix per side of a weight keeps far more if a side is long.
    """
    return (1 << 28) + 512 * weights


def with_initial_lr(optimizer: Optimizer) -> Optimizer:
    """Store the learning rate of each group as the base rate, which a schedule multiplies."""
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def check(**options: float) -> None:
    """Refuse a number that is negative, not a number, or too large for float32, the type of the weights."""
    for name, value in options.items():
        if not 0.0 <= value <= LARGEST:
            raise UserError(f"optimizer: {name} must be a number from 0 to {LARGEST:.0e}, found {value}")


def check_learns(optimizer: Optimizer) -> Optimizer:
    """Refuse an optimizer that never changes the weights.

    Raises
    ------
    UserError
        If the learning rate of a group is 0.
    """
    for group in optimizer.param_groups:
        if group["lr"] == 0.0:
            count = sum(p.numel() for p in group["params"])
            raise UserError(f"optimizer: lr is 0, so that {count} weights never move; expected a number above 0.")
    return optimizer


def check_below_one(**options: float) -> None:
    """Refuse a number outside of [0, 1)."""
    for name, value in options.items():
        if not 0.0 <= value < 1.0:
            raise UserError(f"optimizer: {name} must lie in [0, 1), found {value}")


def check_betas(betas: tuple[float, float]) -> tuple[float, float]:
    """Refuse anything but two numbers in [0, 1), and return them as floats."""
    # A configuration holds a list of any length.
    if len(betas) != 2:
        raise UserError(f"optimizer: betas must be two numbers, found {list(betas)}")
    # PyTorch accepts no mixture of integers and floats.
    first, second = map(float, betas)
    check_below_one(**{"betas[0]": first, "betas[1]": second})
    return first, second
