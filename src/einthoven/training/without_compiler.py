"""A training without the compiler of torch, which takes a second to import.

torch wraps some methods, so that its compiler leaves them alone. The wrappers import the compiler, also in a run that
compiles nothing. A run that compiles its network does not need them either: the network calls none of these methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, Optimizer, RAdam, RMSprop
from torch.utils.flop_counter import _FlopCounterMode

_METHODS = {
    Optimizer: ("add_param_group", "zero_grad", "state_dict", "load_state_dict"),
    _FlopCounterMode: ("__torch_dispatch__",),
}
"""Class -> methods whose wrapper does nothing but keep the compiler out."""

_OPTIMIZERS = (SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, RAdam, RMSprop)
"""Classes whose step has a wrapper that also decides whether its gradients are recorded."""


def leave_compiler_out() -> None:
    """Take the wrappers off the methods of torch. Repeating it changes nothing."""
    for owner, names in _METHODS.items():
        for name in names:
            setattr(owner, name, inspect.unwrap(getattr(owner, name)))
    for optimizer_class in _OPTIMIZERS:
        optimizer_class.step = _step_of(inspect.unwrap(optimizer_class.step))  # type: ignore[method-assign]


def _step_of(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step that records its own gradient only if the optimizer is differentiable, as the wrapper does."""

    @wraps(step)
    def plain_step(optimizer: Optimizer, *arguments: Any, **options: Any) -> Any:
        with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
            return step(optimizer, *arguments, **options)

    return plain_step
