"""Refuse a run that several processes cannot train together."""

from __future__ import annotations

from typing import Any

from einthoven.errors import UserError
from einthoven.tasks.pretext import Pretext


def refuse_unshared(task: Any, records: int, noise_records: int | None, processes: int) -> None:
    """Refuse a task or a size of batches that several processes cannot share.

    `records` are those of the smallest forward pass of the training, of all processes together, and `noise_records`
    those of a forward pass of the gradient noise scale, if it is measured.
    """
    if isinstance(task, Pretext) and not task.calls_whole_model:
        raise UserError(
            f"task={task.name}: its loss calls parts of the model, and {processes} processes share only calls of the "
            "whole model; expected another task, or one process."
        )
    if records < processes:
        raise UserError(
            f"trainer.batch_size, trainer.micro_batch: a forward pass has {records} record{'s' * (records > 1)} for "
            f"{processes} processes together; expected {processes} or more."
        )
    if noise_records is not None and noise_records < processes:
        raise UserError(
            f"diagnostics.noise_scale: compares parts of a batch with {noise_records} records for {processes} "
            f"processes together; expected {processes} or more, or diagnostics.noise_scale=null."
        )
