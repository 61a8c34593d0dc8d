"""Several optimizers behind the interface of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer


class Mixture(Optimizer):
    """Compose optimizers, each over its own parameters, into one `torch.optim.Optimizer`.

    The mixture has its own ``param_groups`` and ``state`` with the parameters of the model. So a schedule, gradient
    clipping, a gradient scaler, ``zero_grad``, ``state_dict`` and ``load_state_dict`` work as for any optimizer. Before
    each step, the inner optimizers receive these hyperparameters and the same state dictionaries. There is one copy of
    each state, so the copies cannot differ.

    An inner optimizer may work on a matrix view of a parameter (Muon on a convolution). `matrices` maps its tensor to
    the parameter with which the tensor shares memory.

    Parameters
    ----------
    optimizers
        Inner optimizers over disjoint tensors. The mixture has their parameter groups, in the same order.
    matrices
        Matrix view in an inner optimizer (see `matrix_view`) -> parameter of the model.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], matrices: Mapping[Tensor, torch.nn.Parameter] | None = None
    ) -> None:
        self._inner = list(optimizers)
        self._matrices = dict(matrices or {})
        groups = []
        for optimizer in self._inner:
            for group in optimizer.param_groups:
                parameters = [self._matrices.get(tensor, tensor) for tensor in group["params"]]
                groups.append({**group, "params": parameters})
        super().__init__(groups, {})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Evaluate `closure` once, if there is one, then take one step of every inner optimizer.

        Returns
        -------
        float or Tensor or None
            The value of the closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # The gradients of this step exist only after the closure.
        self._update_inner()
        for optimizer in self._inner:
            optimizer.step()
        for matrix in self._matrices:
            matrix.grad = None
        return loss

    def split_groups(self, split: Callable[[list[dict[str, Any]], Callable[[Tensor], Tensor]], Any]) -> None:
        """Split the groups of each inner optimizer.

        Parameters
        ----------
        split
            (groups of an inner optimizer, its tensor -> parameter of the model) -> new groups.
        """

        def parameter_of(tensor: Tensor) -> Tensor:
            return self._matrices.get(tensor, tensor)

        groups = []
        for inner in self._inner:
            inner.param_groups[:] = split(inner.param_groups, parameter_of)
            groups += [{**group, "params": list(map(parameter_of, group["params"]))} for group in inner.param_groups]
        self.param_groups[:] = groups

    def _update_inner(self) -> None:
        """Give hyperparameters, state and current matrix views to the inner optimizers."""
        inner_groups = [(inner, group) for inner in self._inner for group in inner.param_groups]
        for group, (inner, inner_group) in zip(self.param_groups, inner_groups, strict=True):
            inner_group.update({key: value for key, value in group.items() if key != "params"})
            for parameter, tensor in zip(group["params"], inner_group["params"], strict=True):
                inner.state[tensor] = self.state[parameter]
                if tensor is not parameter:
                    # The view is renewed in each step, because moving a model to another device replaces its memory.
                    tensor.data = matrix_view(parameter)
                    tensor.grad = None if parameter.grad is None else parameter.grad.reshape(tensor.shape)

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a Mixture shares memory with its model: save its state_dict() instead of pickling it")


def matrix_view(weight: Tensor) -> Tensor:
    """View a weight of 2 or more dimensions as a matrix ``(out, in * kernel)`` that shares its memory."""
    return weight.detach().view(weight.shape[0], -1)


def optimizer_name(optimizer: Optimizer) -> str:
    """Return the class name of an optimizer, or those of the optimizers of a mixture, as in "Muon and AdamW"."""
    optimizers = optimizer._inner if isinstance(optimizer, Mixture) else [optimizer]
    return " and ".join(type(inner).__name__ for inner in optimizers)
