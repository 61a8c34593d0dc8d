"""What the training loop calls: a step, and functions between the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from einthoven.contracts import Batch, LogMetrics, Position
from einthoven.training.guard import Guard


class Step(Protocol):
    """`train_step` whose other arguments are bound: model, task, optimizer, augmentation and options."""

    def __call__(self, batch: Batch, *, generator: torch.Generator, guard: Guard) -> Mapping[str, Tensor]:
        """Take one optimizer step and return its metrics."""


class StepListener(Protocol):
    """An object that the loop tells the end of each step: an average of the weights, or a measurement."""

    def after_step(self, step: int, /) -> Mapping[str, Tensor | float]:
        """Return metrics, which are logged with those of the step, after this many steps."""


@dataclass(frozen=True)
class Callbacks:
    """Functions that the loop calls between the steps.

    Attributes
    ----------
    log_metrics : callable
        (step, {metric name: value}).
    evaluate : callable
        () -> scalars under their metric names; empty without validation data.
    save : callable
        (position, whether this epoch is the best so far), after each epoch.
    show_progress : callable
        (position), after each step.
    is_save_due : callable
        () -> whether a checkpoint is written after this step, although the epoch has not ended.
    save_step : callable
        (position), after such a step.
    """

    log_metrics: LogMetrics
    evaluate: Callable[[], Mapping[str, float]]
    save: Callable[[Position, bool], None]
    show_progress: Callable[[Position], None] = field(default=lambda position: None)
    is_save_due: Callable[[], bool] = field(default=lambda: False)
    save_step: Callable[[Position], None] = field(default=lambda position: None)
