"""What every optimizer shares: which parameters decay, the rate that a schedule multiplies, ranges of options."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from einthoven.errors import UserError

LARGEST = torch.finfo(torch.float32).max


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into one group that decays and one that does not.

    Biases, the gains of normalization layers and every other parameter of fewer than 2 dimensions are not
    decayed: pulling them to zero removes no capacity and biases the fit.

    Parameters
    ----------
    model
        Its trainable parameters, each once, in the order of ``model.named_parameters()``.
    weight_decay
        Decay of the weights of 2 or more dimensions.

    Returns
    -------
    list of dict
        Parameter groups for a torch optimizer; a group that would be empty is left out.

    Raises
    ------
    ValueError
        If the model has no trainable parameter.
    """
    return decay_groups([p for p in model.parameters() if p.requires_grad], weight_decay)


def decay_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """`parameter_groups` of some of a model's parameters."""
    if not parameters:
        raise ValueError("the model has no trainable parameter")
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def most_state_bytes(weights: int) -> int:
    """Bytes that a checkpoint may have of a model whose weights take `weights` bytes.

    Optimizers keep some hundred copies of the weights at most; those that keep a matrix for each side of another one
    keep far more where a side is long.
    """
    return (1 << 28) + 512 * weights


def with_initial_lr(optimizer: Optimizer) -> Optimizer:
    """Note each group's learning rate as the one that a schedule multiplies."""
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def check(**options: float) -> None:
    """Refuse what is negative, not a number, or too large for the weights, which are float32."""
    for name, value in options.items():
        if not 0.0 <= value <= LARGEST:
            raise UserError(f"optimizer: {name} must be a number from 0 to {LARGEST:.0e}, found {value}")


def check_learns(optimizer: Optimizer) -> Optimizer:
    """Refuse an optimizer that would leave weights as they are, whatever their gradient.

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
    """Refuse what is not in [0, 1)."""
    for name, value in options.items():
        if not 0.0 <= value < 1.0:
            raise UserError(f"optimizer: {name} must lie in [0, 1), found {value}")


def check_betas(betas: tuple[float, float]) -> tuple[float, float]:
    """Two numbers in [0, 1)."""
    # A config hands over a list, of any length.
    if len(betas) != 2:
        raise UserError(f"optimizer: betas must be two numbers, found {list(betas)}")
    first, second = map(float, betas)  # torch takes no mixture of whole numbers and others
    check_below_one(**{"betas[0]": first, "betas[1]": second})
    return first, second
