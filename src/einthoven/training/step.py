"""One training step."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from einthoven.contracts import ONE_PROCESS, Augment, Autocast, Batch, Diagnose, Penalty, Processes, Task
from einthoven.training.accumulation import backward, split_batch
from einthoven.training.guard import Guard, SkippedStepError
from einthoven.training.memory import MicroBatch, memory_for


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
    micro_batch: MicroBatch | None = None,
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
    micro_batch : MicroBatch or None
        Records that pass through the model at once, which it halves if memory runs out. None passes the whole batch.
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
    micro_batch = micro_batch or MicroBatch()
    guard = guard or Guard(model)
    step_metrics: dict[str, Tensor] = {}

    def pass_batch() -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        # The pass must be a function of the weights, so that dropout draws the same masks at each call.
        torch.manual_seed(generator.initial_seed())
        with processes.share(model):
            return backward(model, task, split_batch(batch, micro_batch.size), autocast)

    def begin_again() -> None:
        optimizer.zero_grad(set_to_none=True)
        guard.return_to_start()
        if diagnose:
            diagnose.begin_again()

    # The optimizer calls this closure whenever it needs a gradient: once, or several times (SAM, L-BFGS).
    def closure() -> Tensor:
        is_first_call = not step_metrics
        # If memory runs out, the pass begins again with smaller parts. Later calls have no copy of the statistics.
        loss, outputs = micro_batch.within_memory(pass_batch, begin_again if is_first_call else None)
        processes.sum_up([p.grad for p in model.parameters() if p.grad is not None])
        metrics = {"train/loss": loss}
        objective = loss
        penalty_value = penalty.loss(model)
        if penalty_value is not None:
            penalty_value.backward()  # type: ignore[no-untyped-call]
            metrics["train/penalty"] = penalty_value.detach()
            objective = loss + penalty_value.detach()

        # Only the first call sees the weights before the update.
        if is_first_call:
            step_metrics.update(metrics)
            if diagnose:
                with memory_for("the diagnostics of a step", "fewer of them (diagnostics=none has none)"):
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
