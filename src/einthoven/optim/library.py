"""Optimizers that others maintain, by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from einthoven.errors import UserError
from einthoven.optim.groups import check, parameter_groups, with_initial_lr

_OF_OTHER_PACKAGES = ("bnb", "q_galore", "torchao")  # which pytorch-optimizer hands on, and does not list


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
        If the package is not installed, has no optimizer of that name, or one that cannot be used here, or the
        optimizer does not know an option, or needs more than parameters and numbers.
    """
    try:
        import pytorch_optimizer
    except ImportError:
        raise UserError(
            "optimizer=library needs the package pytorch-optimizer: install einthoven[optimizers]."
        ) from None
    check(lr=lr, weight_decay=weight_decay)
    known = pytorch_optimizer.get_supported_optimizers()
    if name.lower() not in known and not name.lower().startswith(_OF_OTHER_PACKAGES):
        close = difflib.get_close_matches(name.lower(), known, cutoff=0.5)
        raise UserError(
            f"optimizer.name={name}: expected one of the {len(known)} optimizers of pytorch-optimizer"
            + (f"; did you mean {' or '.join(close)}?" if close else ", as its documentation lists them.")
        )
    try:
        kind = pytorch_optimizer.load_optimizer(name)
    except (ImportError, RuntimeError) as error:  # another package is missing, needs CUDA, or does not know the name
        raise UserError(f"optimizer.name={name}: cannot be used here ({error}).") from None
    parameters = list(inspect.signature(kind).parameters.values())[1:]
    accepted = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    given = {"lr": lr, **options}
    for option in options:
        if option in ("lr", "weight_decay"):
            raise UserError(f"optimizer.options.{option}: expected optimizer.{option}=… instead.")
    for option in given:
        if option not in accepted:  # the package would swallow it without a word
            raise UserError(f"optimizer.options.{option}: {name} takes {', '.join(accepted)}.")
    try:
        optimizer: Optimizer = kind(parameter_groups(model, weight_decay), **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer.name={name}: cannot be built from parameters and options ({error}).") from None
    return with_initial_lr(optimizer)
