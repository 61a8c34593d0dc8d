"""Forward passes of training steps that run compiled code (`torch.compile`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from einthoven.contracts import Autocast

RECOMPILE_LIMIT = 64
"""A function is compiled for at most so many sizes of batches and sets of frozen stages."""


class CompiledPasses:
    """The context of the forward passes of training steps: an `Autocast` in which the model runs compiled code.

    One function of the model is compiled, with its gradient. The model has the compiled function inside the context
    only. So the names of its weights stay, and all other passes run the code as it is written: evaluation,
    measurements, export.

    A pass in which a module has a hook runs the code as it is written, too, because compiled code calls no hooks.

    The random numbers are those of the code as it is written. Each size of a batch gets its own compiled code, which
    does not depend on the sizes before it.

    Code that this process compiled before is forgotten: one model is compiled at a time.

    Parameters
    ----------
    model : nn.Module
    function : str
        Name of the function that is compiled, such as ``forward``.
    autocast : callable
        Context of the forward passes.
    backend : str
        Backend of `torch.compile`.

    Raises
    ------
    RuntimeError
        If this version of Python is not supported.
    """

    def __init__(self, model: nn.Module, function: str, autocast: Autocast, backend: str = "inductor") -> None:
        from torch._dynamo import config

        self._model = model
        self._function = function
        self._autocast = autocast
        self._as_written = getattr(model, function)
        # Dropout must drop what it drops without the compiler.
        options: dict[str, Any] | None = {"fallback_random": True} if backend == "inductor" else None
        self._compiled = torch.compile(self._as_written, dynamic=False, backend=backend, options=options)
        self._parts = [module for module in model.modules() if module is not model]
        # Code of earlier models of this process would count towards the limit, and would stay in memory.
        torch.compiler.reset()
        # Beyond its limit, torch would run the code as it is written, and say so in a warning only.
        config.recompile_limit = max(RECOMPILE_LIMIT, config.recompile_limit)
        config.fail_on_recompile_limit_hit = True

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let the model run compiled code inside this block."""
        with self._autocast():
            setattr(self._model, self._function, self._run)
            try:
                yield
            finally:
                # From here on, the model finds the method of its class again.
                delattr(self._model, self._function)

    def _run(self, *inputs: Any) -> Any:
        has_hooks = any(module._forward_hooks or module._forward_pre_hooks for module in self._parts)
        function = self._as_written if has_hooks else self._compiled
        return function(*inputs)
