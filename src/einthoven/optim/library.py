"""Optimizers that others maintain, by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from einthoven.errors import UserError
from einthoven.optim.groups import check, parameter_groups, with_initial_lr


def library(
    model: nn.Module,
    *,
    name: str,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    options: Mapping[str, Any],
) -> Optimizer:
    """One of the optimizers of the ``pytorch-optimizer`` package, such as adopt, ademamix, soap or prodigy.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    name
        As the package spells it.
    lr, weight_decay
        Peak learning rate; decay of weights of 2 or more dimensions, coupled or not as the optimizer has it.
    options
        Further arguments of the optimizer.

    Raises
    ------
    UserError
        If the package is not installed, has no optimizer of that name, or the optimizer does not know an
        option, or needs more than parameters and numbers.
    """
    try:
        import pytorch_optimizer
    except ImportError:
        raise UserError(
            "optimizer=library needs the package pytorch-optimizer: install einthoven[optimizers]."
        ) from None
    check(lr=lr, weight_decay=weight_decay)
    try:
        kind = pytorch_optimizer.load_optimizer(name)
    except (NotImplementedError, ImportError) as error:
        known = ", ".join(pytorch_optimizer.get_supported_optimizers())
        raise UserError(f"optimizer.name={name}: expected one that can be used here of {known} ({error}).") from None
    accepted = inspect.signature(kind).parameters
    given = {"lr": lr, **options}
    for option in given:
        if option not in accepted:  # the package would swallow it without a word
            raise UserError(f"optimizer.options.{option}: {name} takes {', '.join(list(accepted)[1:])}.")
    try:
        optimizer: Optimizer = kind(parameter_groups(model, weight_decay), **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer.name={name}: cannot be built from parameters and options ({error}).") from None
    return with_initial_lr(optimizer)
