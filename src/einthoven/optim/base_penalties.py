"""Penalties that keep a fine-tuned model near its base: near its predictions, or near its weights.

Both need a run with ``init_from``. `bind` gives them the base.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from einthoven.contracts import Batch, Task
from einthoven.errors import UserError
from einthoven.functional.information import kl
from einthoven.optim.penalties import Penalty


@dataclass(frozen=True)
class Start:
    """What the penalties know of the base of a run.

    Attributes
    ----------
    logits : callable
        Signals (B, L, T) in mV -> logits of the base for the shared classes (B, S), without gradient. The base is in
        evaluation mode and sees the same augmented batch as the model.
    columns : Tensor of int64 (S,)
        The shared classes among the outputs of the model.
    single_label : bool
        Whether the classes are one categorical distribution, or one Bernoulli distribution each.
    weights : mapping of str to (Tensor or None, Tensor)
        Parameter of the model -> the rows of it that were loaded (None: all), and their values in the base.
    """

    logits: Callable[[Tensor], Tensor]
    columns: Tensor
    single_label: bool
    weights: dict[str, tuple[Tensor | None, Tensor]]


@dataclass(frozen=True)
class BasePenalty(Penalty):
    """Base class of the penalties that need a base model."""

    strength: float
    needs_base: ClassVar[bool] = True
    name: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0.0 <= self.strength < float("inf"):
            raise UserError(f"penalty.strength={self.strength}: expected a number of at least 0.")


class KLToBase(BasePenalty):
    """``strength · KL(base ‖ model)`` in nats: the mean over the records of the batch, for the shared classes.

    Multi-label: the mean over the shared classes of the divergence of Bernoulli distributions. Single-label: the
    divergence of the categorical distributions, given that the class is one of the shared classes. See
    `einthoven.functional.information.kl`.

    It keeps what the base knew while the model learns other records (Li & Hoiem, "Learning without forgetting", 2016,
    section 3, with the divergence for their distillation loss).
    """

    name = "kl_to_base"

    def bind(self, start: Start) -> Penalty:
        """Return the penalty of a run.

        Raises
        ------
        UserError
            If the run and its base share too few classes.
        """
        least = 2 if start.single_label else 1
        if len(start.columns) < least:
            raise UserError(
                f"penalty=kl_to_base: {len(start.columns)} classes of the run are classes of its base; expected "
                f"{least} or more of the same name, with the same kind of outputs."
            )
        return _BoundKL(self.strength, start)


class L2ToBase(BasePenalty):
    """``strength / 2 · ‖w − w_base‖²`` over all loaded weights that are trained.

    This is L2-SP of Li, Grandvalet & Davoine, "Explicit inductive bias for transfer learning with convolutional
    networks", 2018, equation 2, without its second term: new weights have the weight decay of the optimizer. Biases and
    gains of norms are included, as the base says where they belong. An optimizer with weight decay also pulls to zero:
    set it to 0 if the base is to be the only prior.
    """

    name = "l2_to_base"

    def bind(self, start: Start) -> Penalty:
        """Return the penalty of a run."""
        return _BoundL2(self.strength, start)


@dataclass(frozen=True)
class _BoundL2(Penalty):
    strength: float
    start: Start

    def loss(self, model: nn.Module) -> Tensor | None:
        """Return the penalty; None while no loaded weight is trained."""
        parameters = dict(model.named_parameters())
        squares = []
        for name, (rows, reference) in self.start.weights.items():
            weight = parameters[name]
            if weight.requires_grad:
                loaded = weight if rows is None else weight[rows]
                squares.append((loaded - reference).square().sum())
        return self.strength / 2 * torch.stack(squares).sum() if squares else None


@dataclass(frozen=True)
class _BoundKL(Penalty):
    """The penalty needs the batch. So its gradient is computed with the loss of the task, by a wrapped task."""

    strength: float
    start: Start
    _parts: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def wrap(self, task: Task) -> Task:
        """Return a task whose gradient includes the penalty."""
        return _TaskWithPenalty(task, self)

    def measure(self, batch: Batch, outputs: Tensor) -> Tensor:
        """Return the penalty of a part of a batch with logits (B, K), with its gradient, and remember its value."""
        reference = self.start.logits(batch.x)
        reference_p = reference.softmax(dim=-1) if self.start.single_label else reference.sigmoid()
        divergence = kl(reference_p, outputs[:, self.start.columns], self.start.single_label, logits=True)
        count = batch.valid.sum()
        value = self.strength * (divergence * batch.valid).sum() / count
        self._parts.append((value.detach(), count))
        return value

    def loss(self, model: nn.Module) -> Tensor:
        """Return the value of the penalty for the batch. Its gradient is in the weights already."""
        values, counts = zip(*self._parts, strict=True)
        self._parts.clear()
        shares = torch.stack(counts) / torch.stack(counts).sum()
        # The loop calls `backward` on it. This changes no weight, because the value depends on none.
        return (torch.stack(values) * shares).sum().requires_grad_()


@dataclass(frozen=True)
class _TaskWithPenalty:
    """A task with a penalty on the predictions. The value of its loss is that of the task alone."""

    task: Task
    penalty: _BoundKL

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of the task, with the gradient of loss and penalty, and the outputs."""
        loss, outputs = self.task.loss(model, batch)
        penalty = self.penalty.measure(batch, outputs)
        # The difference is zero, and its gradient is that of the penalty.
        return loss + (penalty - penalty.detach()), outputs

    def goal(self, batch: Batch) -> Tensor:
        """As in the task."""
        return self.task.goal(batch)

    def activation(self, outputs: Tensor, /) -> Tensor:
        """As in the task."""
        return self.task.activation(outputs)
