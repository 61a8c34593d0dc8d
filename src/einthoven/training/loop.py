"""The training loop: `fit`. Start reading here, and go on with `step.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from einthoven.contracts import Batch, Position
from einthoven.training.callbacks import Callbacks, Step, StepListener
from einthoven.training.checks import TrainingChecks


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: Step,
    batches: Callable[[int, int], Iterable[Batch]],
    schedule: Callable[[int, int], float],
    callbacks: Callbacks,
    checks: TrainingChecks,
    *,
    listeners: Sequence[StepListener] = (),
    position: Position,
    epochs: int,
    steps_per_epoch: int,
    step_seed: Callable[[int, int], int],
    monitor: str,
    patience: int | None,
) -> Position:
    """Train from `position` to the last epoch, and return the position that was reached.

    The position may be in the middle of an epoch.

    Parameters
    ----------
    step : Step
        Takes one optimizer step.
    batches : callable
        (epoch, first batch) -> batches of that epoch, without those before the first batch.
    schedule : callable
        (step, total steps) -> multiplier of the ``initial_lr`` of each parameter group.
    checks : TrainingChecks
        Skip steps that are not finite, and end a training that diverged.
    listeners : sequence of StepListener
        Averages of the weights and measurements. They are called after each step.
    step_seed : callable
        (epoch, step) -> seed of all random numbers of that step.
    monitor : str
        Metric that is maximized, one of those that `callbacks.evaluate` returns.
    patience : int or None
        Epochs without improvement before training stops early. None trains to the end.

    Raises
    ------
    UserError
        If training diverged: ten steps in a row or all steps of an epoch were skipped, or a weight is not finite. If
        training moved no weight at all.
    """
    generator = torch.Generator(next(model.parameters()).device)
    total_steps = epochs * steps_per_epoch

    while position.epoch < epochs and not position.stopped:
        model.train()
        _set_mode(optimizer, "train")
        first_step = position.epoch * steps_per_epoch
        last_step = first_step + steps_per_epoch
        for batch in batches(position.epoch, position.step - first_step):
            # The learning rate is a function of the step alone.
            multiplier = schedule(position.step, total_steps)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * multiplier

            # One step: augment, forward, loss, backward, clip, update. Its seed makes a resumed run the same run.
            generator.manual_seed(step_seed(position.epoch, position.step))
            metrics: dict[str, Tensor | float] = {**step(batch, generator=generator, guard=checks.guard)}
            metrics["watch/optim/lr"] = optimizer.param_groups[0]["lr"]
            position.step += 1
            for listener in listeners:
                metrics |= listener.after_step(position.step)
            callbacks.log_metrics(position.step, metrics)
            callbacks.show_progress(position)
            checks.after_step(position, batch)

            # The checkpoint at the end of an epoch follows its evaluation.
            if position.step < last_step and callbacks.is_save_due() and checks.allow_save(position):
                callbacks.save_step(position)
        position.epoch += 1

        # Count the skipped steps. A run without any has no such curve.
        checks.end_epoch(position, first_step, batch)
        if position.skipped:
            callbacks.log_metrics(position.step, {"watch/optim/skipped": position.skipped})

        # Evaluate.
        _set_mode(optimizer, "eval")
        epoch_metrics = callbacks.evaluate()
        callbacks.log_metrics(position.step, epoch_metrics)

        # Compare with the best epoch, and save.
        is_best = monitor in epoch_metrics and epoch_metrics[monitor] > position.best
        if is_best:
            position.best = epoch_metrics[monitor]
            position.best_epoch = position.epoch
        position.stopped = patience is not None and position.epoch - position.best_epoch >= patience
        callbacks.save(position, is_best)

    checks.end_training(position)
    return position


def _set_mode(optimizer: torch.optim.Optimizer, mode: str) -> None:
    """Call `optimizer.train()` or `optimizer.eval()`, if it has such a method.

    Schedule-free optimizers train and evaluate at different weights.
    """
    if hasattr(optimizer, mode):
        getattr(optimizer, mode)()
