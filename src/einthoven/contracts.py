"""Types that several packages share. This module imports nothing else of einthoven."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
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

    def before_update(self, batch: Batch, outputs: Tensor) -> Mapping[str, Tensor]:
        """Measure after the backward pass and before clipping."""

    def after_update(self, norm: Tensor, limit: float) -> Mapping[str, Tensor]:
        """Measure after the update; `norm` is the gradient norm before it was clipped to `limit`."""


class Penalty(Protocol):
    """A penalty on the weights."""

    def loss(self, model: nn.Module) -> Tensor | None:
        """Return the value that is added to the loss, or None if nothing is added."""

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Change the weights after a step of the optimizer, as a proximal step does."""
