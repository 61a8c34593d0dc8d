"""A running mean of the weights of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class WeightAverage:
    """A mean of the weights, which the loop updates after a step.

    After n updates with the weights w₁ … wₙ, the mean is ``Σ dⁿ⁻ᵏ wₖ / Σ dⁿ⁻ᵏ`` with the decay d. With d < 1 it is the
    exponential moving average (EMA) with the bias correction of Adam (Kingma and Ba 2015, section 3): the first weights
    count no more than later ones. With d = 1 it is the plain mean of stochastic weight averaging (SWA, Izmailov et al.
    2018, algorithm 1).

    Batch norms need the statistics of the averaged weights. The mean of the statistics of the weights is not the same
    (Izmailov et al. 2018, section 3.2), so they are computed anew before the averaged weights are used.

    Parameters
    ----------
    model : nn.Module
        All its parameters are averaged.
    decay : float
        d, above 0 and up to 1.
    first_step : int
        The first update is after this many steps or later.
    interval : int
        An update is after each step whose number is a multiple of this.
    recompute : callable
        Computes the running statistics of the batch norms of the model anew.

    Attributes
    ----------
    count : int
        Number of updates. Before the first one there is no average, and the weights are used as they are.
    """

    def __init__(
        self, model: nn.Module, *, decay: float, first_step: int, interval: int, recompute: Callable[[], None]
    ) -> None:
        self.count = 0
        self._model = model
        self._parameters = list(model.parameters())
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._statistics = [buffer for norm in norms for buffer in norm.buffers()]
        self._decay = decay
        self._first_step = first_step
        self._interval = interval
        self._recompute = recompute
        self._averages = [p.detach().clone() for p in self._parameters]
        # The statistics of the averaged weights, as long as no update follows.
        self._new_statistics: list[Tensor] | None = None

    @torch.no_grad()
    def after_step(self, step: int) -> Mapping[str, Tensor]:
        """Add the weights to the mean, if an update is due after this many steps. There is no metric."""
        if step >= self._first_step and step % self._interval == 0:
            self.count += 1
            weight = 1.0 / self.count
            if self._decay < 1.0:
                weight = (1.0 - self._decay) / (1.0 - self._decay**self.count)
            torch._foreach_lerp_(self._averages, [p.detach() for p in self._parameters], weight)
            self._new_statistics = None
        return {}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights and their statistics inside this block, if there is an average."""
        if not self.count:
            yield
            return
        tensors = [*self._parameters, *self._statistics]
        raw = [tensor.detach().clone() for tensor in tensors]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                _copy(raw, tensors)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the model the averaged weights and their statistics, if there is an average."""
        if not self.count:
            return
        _copy(self._averages, self._parameters)
        if self._new_statistics is None:
            self._recompute()
            self._new_statistics = [buffer.clone() for buffer in self._statistics]
        _copy(self._new_statistics, self._statistics)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs beside the averaged weights, which are those of its model.

        Call this outside of `applied`, where the model has the raw weights.
        """
        raw = {name: value.clone() for name, value in self._model.state_dict().items()}
        return {"count": self.count, "raw": raw if self.count else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. The model has the averaged weights. The caller loads the raw ones afterwards."""
        self.count = int(state["count"])
        self._averages = [p.detach().clone() for p in self._parameters]
        self._new_statistics = [buffer.clone() for buffer in self._statistics]


def _copy(values: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Write values into tensors."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
