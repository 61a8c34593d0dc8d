"""The training loop: `train_step`, `evaluate`, `fit`. Start reading here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from einthoven.contracts import (
    ONE_PROCESS,
    Augment,
    Autocast,
    Batch,
    Diagnose,
    LogMetrics,
    Penalty,
    Position,
    Predictions,
    Processes,
    Task,
)
from einthoven.errors import UserError
from einthoven.functional.windows import aggregate_windows, apply_to_windows
from einthoven.training.accumulation import backward, split_batch
from einthoven.training.guard import Guard, SkippedStepError, all_finite

SKIPPED_STEPS_LIMIT = 10
"""Training ends after this many skipped steps in a row."""

MAX_RECORD_NAMES = 32
"""An error message names at most this many records."""


def train_step(
    model: nn.Module,
    task: Task,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    *,
    augment: Augment,
    generator: torch.Generator,
    autocast: Autocast,
    clip_norm: float,
    penalty: Penalty,
    diagnose: Diagnose | None = None,
    micro_batch: int | None = None,
    guard: Guard | None = None,
    processes: Processes = ONE_PROCESS,
) -> dict[str, Tensor]:
    """Take one optimizer step.

    A step whose loss or gradient is not finite changes neither the weights nor the running statistics.

    Parameters
    ----------
    generator : torch.Generator
        Random numbers of the augmentation. Its seed is also the seed of dropout.
    clip_norm : float
        Largest norm of the gradient; infinity does not clip.
    diagnose : Diagnose or None
        Measurements of the step. None measures only the loss and the gradient norm.
    micro_batch : int or None
        Records that pass through the model at once. None passes the whole batch.
    guard : Guard or None
        The guard of `model`. A loop uses one guard for all steps, because a guard allocates memory.
    processes : Processes
        The processes that take this step together.

    Returns
    -------
    dict of str to Tensor
        Metrics of the weights before the update, as device tensors. Nothing here waits for the device.
    """
    x, y = augment(batch.x, batch.y, generator)
    batch = replace(batch, x=x, y=y)
    parts = split_batch(batch, micro_batch)
    guard = guard or Guard(model)
    step_metrics: dict[str, Tensor] = {}

    # The optimizer calls this closure whenever it needs a gradient: once, or several times (SAM, L-BFGS).
    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        # The closure must be a function of the weights, so that dropout draws the same masks at each call.
        torch.manual_seed(generator.initial_seed())
        with processes.share(model):
            loss, outputs = backward(model, task, parts, autocast)
        processes.sum_up([p.grad for p in model.parameters() if p.grad is not None])
        metrics = {"train/loss": loss}
        objective = loss
        penalty_value = penalty.loss(model)
        if penalty_value is not None:
            penalty_value.backward()  # type: ignore[no-untyped-call]
            metrics["train/penalty"] = penalty_value.detach()
            objective = loss + penalty_value.detach()

        # Only the first call sees the weights before the update.
        is_first_call = not step_metrics
        if is_first_call:
            step_metrics.update(metrics)
            if diagnose:
                step_metrics.update(diagnose.before_update(batch, outputs))
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        step_metrics.setdefault("watch/grad/norm", norm)
        guard.hold(objective.isfinite() & norm.isfinite())
        return objective

    guard.remember()
    try:
        optimizer.step(closure)  # type: ignore[arg-type]  # torch's stub says float, its optimizers return the tensor
        penalty.after_step(optimizer)
    except SkippedStepError:
        optimizer.zero_grad(set_to_none=True)
    guard.restore()
    if diagnose:
        step_metrics.update(diagnose.after_update(step_metrics["watch/grad/norm"], clip_norm))
    return step_metrics


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task,
    batches: Iterable[Batch],
    *,
    window: int,
    stride: int,
    aggregate: str,
    autocast: Autocast,
) -> Predictions:
    """Predict every record: cut it into windows, predict each window, and aggregate over the windows.

    If the outputs run along the signal, as masks do, the window must be the whole record.

    Parameters
    ----------
    window, stride, aggregate
        As in `einthoven.functional.windows`.
    """
    model.eval()
    outputs, goals, valid = [], [], []
    for batch in batches:
        with autocast():
            window_outputs = apply_to_windows(model, batch.x, window, stride).float()
        outputs.append(window_outputs)
        goals.append(task.goal(batch))
        valid.append(batch.valid)

    # Device-to-host sync: once per evaluation.
    is_valid = torch.cat(valid).cpu()
    valid_outputs = torch.cat(outputs).cpu()[is_valid]
    valid_goals = torch.cat(goals).cpu()[is_valid]

    p = task.activation(valid_outputs.double())
    record_p = aggregate_windows(p, aggregate)
    return Predictions(valid_goals.double().numpy(), record_p.numpy(), p.numpy())


class Step(Protocol):
    """`train_step` whose other arguments are bound: model, task, optimizer, augmentation and options."""

    def __call__(self, batch: Batch, *, generator: torch.Generator, guard: Guard) -> Mapping[str, Tensor]:
        """Take one optimizer step and return its metrics."""


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
    record_names : callable
        (`index` of a batch) -> names of its records, for error messages.
    """

    log_metrics: LogMetrics
    evaluate: Callable[[], Mapping[str, float]]
    save: Callable[[Position, bool], None]
    show_progress: Callable[[Position], None] = field(default=lambda position: None)
    is_save_due: Callable[[], bool] = field(default=lambda: False)
    save_step: Callable[[Position], None] = field(default=lambda position: None)
    record_names: Callable[[Tensor], Sequence[object]] = field(default=Tensor.tolist)


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: Step,
    batches: Callable[[int, int], Iterable[Batch]],
    schedule: Callable[[int, int], float],
    callbacks: Callbacks,
    *,
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
    guard = Guard(model)
    guard.continue_from(position.skipped_in_epoch, position.skipped_in_a_row)
    total_steps = epochs * steps_per_epoch
    is_new = position.step == 0
    first_weights = [p.detach().clone() for p in model.parameters()] if is_new else []

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
            metrics = step(batch, generator=generator, guard=guard)
            position.step += 1
            callbacks.log_metrics(position.step, {**metrics, "watch/optim/lr": optimizer.param_groups[0]["lr"]})
            callbacks.show_progress(position)

            # Ten skipped steps in a row end the training. Device-to-host sync: every tenth step.
            if position.step % SKIPPED_STEPS_LIMIT == 0 and int(guard.skipped_in_a_row) >= SKIPPED_STEPS_LIMIT:
                raise _diverged(SKIPPED_STEPS_LIMIT, position, callbacks, batch)

            # The checkpoint at the end of an epoch follows its evaluation.
            if position.step < last_step and callbacks.is_save_due():
                _save_step(model, guard, position, callbacks)
        position.epoch += 1

        # Count the skipped steps. A run without any has no such curve.
        position.skipped += _check_epoch(model, guard, position, first_step, callbacks, batch)
        if position.skipped:
            callbacks.log_metrics(position.step, {"watch/optim/skipped": position.skipped})
        position.skipped_in_epoch = 0
        position.skipped_in_a_row = int(guard.skipped_in_a_row)

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

    if is_new and not _have_moved(first_weights, list(model.parameters())):
        raise UserError(
            f"training has moved no weight in {position.step} steps. Try a larger learning rate, another schedule or "
            "a larger clipping norm."
        )
    return position


def _save_step(model: nn.Module, guard: Guard, position: Position, callbacks: Callbacks) -> None:
    """Save within an epoch, unless a weight is not finite: such weights must not replace the last checkpoint."""
    # Device-to-host sync: once for each checkpoint.
    if all_finite([*model.parameters(), *model.buffers()]):
        position.skipped_in_epoch = guard.skipped
        position.skipped_in_a_row = int(guard.skipped_in_a_row)
        callbacks.save_step(position)


def _check_epoch(
    model: nn.Module, guard: Guard, position: Position, first_step: int, callbacks: Callbacks, last_batch: Batch
) -> int:
    """Refuse an epoch without a single step, or with weights that are not finite. Return its skipped steps.

    Such an epoch must not be saved.
    """
    # Device-to-host sync: three times per epoch, with that of the caller.
    skipped = guard.take_skipped()
    if skipped == position.step - first_step > 0:
        raise _diverged(skipped, position, callbacks, last_batch)
    if not all_finite([*model.parameters(), *model.buffers()]):
        raise UserError(
            f"training diverged: the weights are not finite after epoch {position.epoch} (step {position.step}). "
            "Try a lower learning rate or a smaller clipping norm."
        )
    return skipped


@torch.no_grad()
def _have_moved(before: Sequence[Tensor], after: Sequence[Tensor]) -> bool:
    """Return whether the weights changed by more than 10⁻¹² of their norm; float32 rounds at 10⁻⁷ of it."""
    distance = torch.stack([(b - a).norm().float() for a, b in zip(before, after, strict=True)]).norm()
    norm = torch.stack([a.norm().float() for a in before]).norm()
    # Device-to-host sync: once per run.
    return bool(distance > 1e-12 * norm)


def _diverged(count: int, position: Position, callbacks: Callbacks, last_batch: Batch) -> UserError:
    """Return an error about `count` skipped steps in a row, with the records of the last batch."""
    names = callbacks.record_names(last_batch.index)
    listed = ", ".join(map(str, names[:MAX_RECORD_NAMES]))
    if len(names) > MAX_RECORD_NAMES:
        listed += f" and {len(names) - MAX_RECORD_NAMES} more"
    plural = "" if count == 1 else "s"
    return UserError(
        f"training diverged: the loss or its gradient was not finite in {count} step{plural} in a row. The last of "
        f"them was step {position.step}. Try a lower learning rate or a smaller clipping norm, or look at the records "
        f"of that step (ecg_id {listed})."
    )


def _set_mode(optimizer: torch.optim.Optimizer, mode: str) -> None:
    """Call `optimizer.train()` or `optimizer.eval()`, if it has such a method.

    Schedule-free optimizers train and evaluate at different weights.
    """
    if hasattr(optimizer, mode):
        getattr(optimizer, mode)()
