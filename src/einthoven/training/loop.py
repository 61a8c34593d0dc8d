"""The training loop: `train_step`, `evaluate`, `fit`. Start reading here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.training.accumulation import backward, split
from einthoven.training.guard import Guard, SkippedStepError, all_finite

if TYPE_CHECKING:
    from einthoven.data.store.batches import Batch
    from einthoven.training.precision import Autocast

Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
Record = Callable[[int, Mapping[str, Tensor | float]], None]

PATIENCE = 10  # steps in a row without a finite loss and gradient, after which a training ends
MOST_NAMES = 32  # records that a sentence names


class Task(Protocol):
    """What the loop knows of a task."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss over the valid records, and the model's outputs (B, ...)."""

    def goal(self, batch: Batch) -> Tensor:
        """What predictions are compared with (B, ...): labels, quantities, a mask, or the signal itself."""

    def activation(self, outputs: Tensor, /) -> Tensor:
        """Outputs of the model -> predictions."""


class Diagnose(Protocol):
    """What the loop knows of the measurements of a step: each method may tell metrics, as device tensors."""

    def before_update(self, batch: Batch, outputs: Tensor) -> Mapping[str, Tensor]:
        """Between the backward pass and clipping."""

    def after_update(self, norm: Tensor, limit: float) -> Mapping[str, Tensor]:
        """After the update, with the norm of the gradient before clipping, and the largest one allowed."""


class Penalty(Protocol):
    """What the loop knows of a penalty on the weights."""

    def loss(self, model: nn.Module) -> Tensor | None:
        """What is added to the loss; None for nothing."""

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """What is done to the weights after a step."""

    def metrics(self, model: nn.Module) -> Mapping[str, Tensor]:
        """What to tell once an epoch."""


@dataclass
class Position:
    """Where a run stands. Everything random follows from the seed and this, so it is all that a resume needs."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished optimizer steps
    best: float = -math.inf
    best_epoch: int = 0
    stopped: bool = False  # early
    skipped: int = 0  # steps whose loss or gradient was not finite


@dataclass(frozen=True)
class Evaluation:
    """Goals and predictions (n, ...), as float64 arrays on the host: labels and probabilities of a classifier.

    Where records were cut, also the predictions of each of their windows (n, W, ...), of which `p` is the aggregate.
    """

    y: NDArray[np.float64]
    p: NDArray[np.float64]
    windows: NDArray[np.float64] | None = None


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
) -> dict[str, Tensor]:
    """One optimizer step. Returns device tensors; nothing here waits for the device.

    The optimizer is given a closure, so that one which needs the gradient at several points can ask for it.
    The closure is a function of the weights: dropout draws the same masks each time. With a `micro_batch`, no
    more records than that pass through the model at once, and their gradients add up to that of the batch.

    A step whose loss or gradient is not finite changes neither weights nor running statistics.

    Parameters
    ----------
    guard : Guard, optional
        Of this model; `Guard.finite` tells of the step. It has memory of its own: a loop uses one for all its steps.
    """
    x, y = augment(batch.x, batch.y, generator)
    batch = replace(batch, x=x, y=y)
    parts = split(batch, micro_batch)
    seen: dict[str, Tensor] = {}
    guard = guard or Guard(model)

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(generator.initial_seed())  # dropout
        loss, outputs = backward(model, task, parts, autocast)
        told, objective = {"train/loss": loss}, loss
        if (cost := penalty.loss(model)) is not None:
            cost.backward()  # type: ignore[no-untyped-call]
            told["train/penalty"], objective = cost.detach(), loss + cost.detach()
        if not seen:  # what is told of a step is measured where it starts
            seen.update(told | (dict(diagnose.before_update(batch, outputs)) if diagnose else {}))
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        seen.setdefault("watch/grad/norm", norm)  # before clipping
        guard.hold(objective.isfinite() & norm.isfinite())
        return objective

    guard.remember()
    try:
        optimizer.step(closure)  # type: ignore[arg-type]  # torch's stub says float, its optimizers return the tensor
        penalty.after_step(optimizer)
    except SkippedStepError:
        optimizer.zero_grad(set_to_none=True)
    guard.restore()
    return seen | (dict(diagnose.after_update(seen["watch/grad/norm"], clip_norm)) if diagnose else {})


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task,
    batches: Iterable[Batch],
    *,
    cut: Callable[[Tensor], Tensor],
    aggregate: str,
    autocast: Autocast,
) -> Evaluation:
    """Predictions of every record: cut into windows, predicted, and aggregated over the windows.

    Where the outputs run along the signal, as masks do, a window is the whole record.

    Parameters
    ----------
    cut : callable
        (B, C, T) -> windows (B, W, C, window).
    aggregate : str
        ``mean`` or ``max`` over the windows of a record.
    """
    model.eval()
    outputs, goals, valid = [], [], []
    for batch in batches:
        x = cut(batch.x)
        with autocast():
            z = model(x.flatten(0, 1)).float().unflatten(0, x.shape[:2])
        outputs.append(z)
        goals.append(task.goal(batch))
        valid.append(batch.valid)
    z, y, keep = (torch.cat(parts).cpu() for parts in (outputs, goals, valid))  # sync: once per evaluation
    p = task.activation(z[keep].double())
    whole = p.amax(dim=1) if aggregate == "max" else p.mean(dim=1)
    return Evaluation(y[keep].double().numpy(), whole.numpy(), p.numpy())


@dataclass(frozen=True)
class Events:
    """What happens around the steps; the loop knows no more of it."""

    record: Record
    evaluate: Callable[[], Mapping[str, float]]  # scalars under their metric names; empty without validation data
    save: Callable[[Position, bool], None]  # (position, is this the best so far)
    progress: Callable[[Position], None] = field(default=lambda position: None)
    names: Callable[[Tensor], Sequence[object]] = field(default=lambda index: index.tolist())  # of a batch's records


def fit(
    model: nn.Module,
    task: Task,
    batches: Callable[[int], Iterable[Batch]],
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int, int], float],
    events: Events,
    *,
    position: Position,
    epochs: int,
    steps_per_epoch: int,
    augment: Augment,
    autocast: Autocast,
    clip_norm: float | None,
    seed_of: Callable[[int, int], int],
    device: torch.device,
    monitor: str,
    patience: int | None,
    penalty: Penalty,
    diagnose: Diagnose | None = None,
    micro_batch: int | None = None,
) -> Position:
    """Train from `position` to the last epoch.

    ::

        for epoch:
            for batch:
                learning rate = base * schedule(step, total)
                train_step: augment, forward, loss and penalty, backward, diagnose, clip, update, diagnose
                record
                stop if the last ten steps were skipped, because their loss or gradient was not finite
            stop if all steps of the epoch were skipped, or a weight is not finite
            evaluate, record
            save: last, and best if the monitored metric improved
            stop early if it has not improved for `patience` epochs

    Parameters
    ----------
    batches : callable
        Epoch number -> the batches of that epoch.
    schedule : callable
        (step, total steps) -> multiplier of each parameter group's ``initial_lr``.
    seed_of : callable
        (epoch, step) -> seed of everything random in that step.
    monitor : str
        Name of the metric to maximize among those that `events.evaluate` returns.
    patience : int or None
        Epochs without improvement to accept; None trains to the end.
    diagnose : Diagnose or None
        What is measured at each step; None: the loss and the norm of the gradient alone.
    micro_batch : int or None
        Most records that pass through the model at once; None takes the batch as it is.

    Returns
    -------
    Position

    Raises
    ------
    UserError
        If training diverged, or moved no weight at all.
    """
    generator, total = torch.Generator(device), epochs * steps_per_epoch
    guard = Guard(model)
    first_weights = [p.detach().clone() for p in model.parameters()] if position.step == 0 else None
    in_a_row = torch.zeros((), device=device)
    while position.epoch < epochs and not position.stopped:
        model.train()
        switch(optimizer, "train")
        skipped = torch.zeros((), device=device)
        steps = 0
        for batch in batches(position.epoch):
            multiplier = schedule(position.step, total)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * multiplier
            seed = seed_of(position.epoch, position.step)
            seen = train_step(
                model,
                task,
                batch,
                optimizer,
                augment=augment,
                generator=generator.manual_seed(seed),
                autocast=autocast,
                clip_norm=clip_norm or math.inf,
                penalty=penalty,
                diagnose=diagnose,
                micro_batch=micro_batch,
                guard=guard,
            )
            position.step += 1
            steps += 1
            # Counted on the device.
            is_skipped = (~guard.finite).float()
            skipped += is_skipped
            in_a_row = (in_a_row + 1) * is_skipped
            events.record(position.step, {**seen, "watch/optim/lr": optimizer.param_groups[0]["lr"]})
            events.progress(position)
            if position.step % PATIENCE == 0 and int(in_a_row) >= PATIENCE:  # sync: every tenth step
                raise UserError(_diverged(PATIENCE, position.step, events.names(batch.index)))
        position.epoch += 1
        count = int(skipped)  # sync: once per epoch
        if count == steps > 0:
            raise UserError(_diverged(count, position.step, events.names(batch.index)))
        if not all_finite([*model.parameters(), *model.buffers()]):  # sync: once per epoch
            raise UserError(
                f"training diverged: after epoch {position.epoch} (step {position.step}), weights are not finite "
                "numbers; try a lower optimizer.lr or trainer.clip_norm."
            )
        position.skipped += count
        if position.skipped:  # of healthy runs, it would be one more line of zeros
            events.record(position.step, {"watch/optim/skipped": position.skipped})
        switch(optimizer, "eval")
        metrics = events.evaluate()
        events.record(position.step, {**metrics, **penalty.metrics(model)})
        improved = monitor in metrics and metrics[monitor] > position.best
        if improved:
            position.best, position.best_epoch = metrics[monitor], position.epoch
        position.stopped = patience is not None and position.epoch - position.best_epoch >= patience
        events.save(position, improved)
    if first_weights is not None and not _have_moved(first_weights, list(model.parameters())):
        raise UserError(
            f"training has moved no weight in {position.step} steps; expected a larger optimizer.lr, or other "
            "options of optimizer, schedule and trainer.clip_norm."
        )
    return position


@torch.no_grad()
def _have_moved(before: Sequence[Tensor], after: Sequence[Tensor]) -> bool:
    """Whether the weights have changed by more than a 10⁻¹² of their size: float32 rounds them at 10⁻⁷ of it."""
    distance = torch.stack([(b - a).norm().float() for a, b in zip(before, after, strict=True)]).norm()
    size = torch.stack([a.norm().float() for a in before]).norm()
    return bool(distance > 1e-12 * size)  # sync: once per run


def _diverged(count: int, step: int, records: Sequence[object]) -> str:
    """A sentence about steps without a finite loss and gradient, with the records of the last of them."""
    shown = ", ".join(map(str, records[:MOST_NAMES]))
    if len(records) > MOST_NAMES:
        shown += f" and {len(records) - MOST_NAMES} more"
    return (
        f"training diverged: the loss or its gradient was not a finite number in {count} "
        f"step{'s' * (count != 1)} in a row, the last of them step {step}; try a lower optimizer.lr or "
        f"trainer.clip_norm, or examine the records of that step (ecg_id {shown})."
    )


def switch(optimizer: torch.optim.Optimizer, mode: str) -> None:
    """Tell an optimizer that trains and evaluates at different weights (schedule-free ones) which it shall be."""
    if hasattr(optimizer, mode):
        getattr(optimizer, mode)()
