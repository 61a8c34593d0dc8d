"""Types that several packages share. This module imports nothing else of einthoven."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""(x, y, generator) -> augmented x and y, on the device of x."""

Autocast = Callable[[], AbstractContextManager[object]]
"""Returns the context manager in which forward passes run."""

LogMetrics = Callable[[int, Mapping[str, Tensor | float]], None]
"""(step, {metric name: value}) -> None. This is all that the training loop knows about tracking."""

CLASS_OUTPUTS = ("sigmoid", "softmax")
"""Outputs of a model of classes."""


class TaskKind(Enum):
    """What a task predicts. Parts that suit some tasks only ask for the kind, ``task.kind``."""

    CLASSES = "classes"
    """A probability for each class, (n, K)."""

    QUANTITY = "quantity"
    """One quantity or direction of a record, (n, K)."""

    MASKS = "masks"
    """A probability for each mask and sample, (n, C, T)."""

    PRETEXT = "pretext"
    """Nothing that has a label: the scores (n, M) of a pretraining."""


@dataclass(frozen=True)
class Batch:
    """A batch of records.

    Attributes
    ----------
    x : Tensor, float32 (B, L, T)
        Signals in mV.
    y : Tensor, float32 (B, K), or (B, C, T)
        Labels, quantities, or masks that run along the signal.
    index : Tensor, int64 (B,)
        Row of each record in its split.
    valid : Tensor, bool (B,)
        False where a row only fills up the last batch.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Predictions:
    """Expected values and predictions of some records, as float64 arrays on the host.

    Attributes
    ----------
    y : ndarray (n, ...)
        Expected values: the labels, for a classifier.
    p : ndarray (n, ...)
        Predictions: the probabilities, for a classifier.
    windows : ndarray (n, W, ...) or None
        Predictions of the W windows of each record, where records were cut into windows. `p` is their aggregate.
    """

    y: NDArray[np.float64]
    p: NDArray[np.float64]
    windows: NDArray[np.float64] | None = None


@dataclass
class Position:
    """How far a training run has come.

    All randomness follows from the seed and this position, so that a resumed run needs nothing else.

    Attributes
    ----------
    epoch, step : int
        Finished epochs and finished optimizer steps.
    best : float
        Best value of the monitored metric.
    best_epoch : int
        Epoch of the best value; 0 if there is none.
    stopped : bool
        Whether early stopping has ended the run.
    skipped : int
        Steps of finished epochs that were skipped, because their loss or gradient was not finite.
    skipped_in_epoch, skipped_in_a_row : int
        The same for the epoch that has not ended, and for the last steps. They are up to date in checkpoints only.
    """

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    stopped: bool = False
    skipped: int = 0
    skipped_in_epoch: int = 0
    skipped_in_a_row: int = 0


class Task(Protocol):
    """The part of a task that the training loop uses."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean loss over the valid records, and the outputs of the model (B, ...)."""

    def goal(self, batch: Batch) -> Tensor:
        """Return the values that predictions are compared with (B, ...): labels, quantities, a mask, or the signal."""

    def activation(self, outputs: Tensor, /) -> Tensor:
        """Turn outputs of the model into predictions."""


class Diagnose(Protocol):
    """The measurements of a training step. Each method returns metrics as device tensors."""

    def begin_again(self) -> None:
        """Forget the forward passes of this step, which begins again."""

    def before_update(self, batch: Batch, outputs: Tensor) -> Mapping[str, Tensor]:
        """Measure after the backward pass and before clipping."""

    def after_update(self, norm: Tensor, limit: float) -> Mapping[str, Tensor]:
        """Measure after the update; `norm` is the gradient norm before it was clipped to `limit`."""


class Processes(Protocol):
    """The processes that train one model together.

    Each process calls the same methods in the same order. A method waits until all processes have called it.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0 on, and number of processes.
    """

    rank: int
    size: int

    def share(self, model: nn.Module) -> AbstractContextManager[None]:
        """Divide the records of each call of the model among the processes, inside the block.

        A call still takes the records of all processes, and returns the outputs of all records.
        """

    def sum_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows (n, ...) of all processes, in the order of the processes, without gradient."""

    def gather_numbers(self, numbers: Sequence[int]) -> list[int]:
        """Return the numbers of all processes, in the order of the processes. Each process has equally many."""

    def any(self, is_true: bool) -> bool:
        """Return whether a condition is true in one or more processes."""

    def agree(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics of the first process. The others have measured the same, up to rounding."""

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Give each tensor the values that it has in the first process."""

    def meet(self, folder: Path) -> None:
        """Wait until all processes have assembled the run of this folder."""


class OneProcess:
    """The processes of a training in a single process."""

    rank = 0
    size = 1

    def share(self, model: nn.Module) -> AbstractContextManager[None]:
        """Pass whole batches through the model."""
        return nullcontext()

    def sum_up(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are."""

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows."""
        return rows

    def gather_numbers(self, numbers: Sequence[int]) -> list[int]:
        """Return the numbers."""
        return list(numbers)

    def any(self, is_true: bool) -> bool:
        """Return whether the condition is true."""
        return is_true

    def agree(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics."""
        return dict(metrics)

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are."""

    def meet(self, folder: Path) -> None:
        """Wait for no one."""


ONE_PROCESS = OneProcess()


class Penalty(Protocol):
    """A penalty on the weights."""

    def loss(self, model: nn.Module) -> Tensor | None:
        """Return the value that is added to the loss, or None if nothing is added."""

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Change the weights after a step of the optimizer, as a proximal step does."""
