"""Several optimizers behind the interface of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer


class Mixture(Optimizer):
    """Compose optimizers, each over its own parameters, into one `torch.optim.Optimizer`.

    ``param_groups`` and ``state`` are this object's own and hold the model's parameters, so that a schedule,
    gradient clipping, a gradient scaler, ``zero_grad`` and ``state_dict`` / ``load_state_dict`` of the base
    class work as for any optimizer. Before each step the inner optimizers are handed those hyperparameters
    and the very same state dictionaries: there is one copy of each, and nothing can drift apart.

    An inner optimizer may work on a matrix view of a parameter (Muon on a convolution): `matrices` maps the
    tensor that it holds to the parameter whose memory it shares.

    Parameters
    ----------
    optimizers
        Inner optimizers over disjoint tensors; their parameter groups, in order, become this object's.
    matrices
        For each tensor of an inner optimizer that is a matrix view (see `matrix_view`), its parameter.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], matrices: Mapping[Tensor, torch.nn.Parameter] | None = None
    ) -> None:
        self._inner = list(optimizers)
        self._matrices = dict(matrices or {})
        super().__init__(
            [
                {**group, "params": [self._matrices.get(tensor, tensor) for tensor in group["params"]]}
                for optimizer in self._inner
                for group in optimizer.param_groups
            ],
            {},
        )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Evaluate `closure` once, if given, then take one step of every inner optimizer.

        Returns
        -------
        float or Tensor or None
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # After the closure: only now are the gradients those of this step.
        self._hand_down()
        for optimizer in self._inner:
            optimizer.step()
        for matrix in self._matrices:
            matrix.grad = None
        return loss

    def _hand_down(self) -> None:
        """Give the inner optimizers this object's hyperparameters, state, and current views."""
        inner_groups = [(inner, group) for inner in self._inner for group in inner.param_groups]
        for group, (inner, inner_group) in zip(self.param_groups, inner_groups, strict=True):
            inner_group.update({key: value for key, value in group.items() if key != "params"})
            for parameter, tensor in zip(group["params"], inner_group["params"], strict=True):
                inner.state[tensor] = self.state[parameter]
                if tensor is not parameter:
                    # Taken anew each time: moving a model to another device replaces its memory.
                    tensor.data = matrix_view(parameter)
                    tensor.grad = None if parameter.grad is None else parameter.grad.reshape(tensor.shape)

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a Mixture shares memory with its model: keep its state_dict() instead of pickling it")


def matrix_view(weight: Tensor) -> Tensor:
    """View a weight of 2 or more dimensions as a matrix ``(out, in * kernel)`` that shares its memory."""
    return weight.detach().view(weight.shape[0], -1)
