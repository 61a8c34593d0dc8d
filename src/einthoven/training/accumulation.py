"""The gradient of a batch that does not fit through the model at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from einthoven.errors import UserError

if TYPE_CHECKING:
    from einthoven.data.store.batches import Batch
    from einthoven.training.loop import Task
    from einthoven.training.precision import Autocast


def split(batch: Batch, size: int | None) -> list[Batch]:
    """Split a batch into the fewest parts of at most `size` records; their sizes differ by one at most."""
    count = parts_of(len(batch.x), size)
    columns = (getattr(batch, f.name).tensor_split(count) for f in fields(batch))
    return [type(batch)(*values) for values in zip(*columns, strict=True)]


def backward(model: nn.Module, task: Task, parts: Sequence[Batch], autocast: Autocast) -> tuple[Tensor, Tensor]:
    """Forward and backward pass of a batch, part by part: parameters gather the gradient of its mean loss.

    The gradient is that of the whole batch where the loss is a mean over records and the model treats each by
    itself. Batch normalization does not: its statistics are those of each part.

    Returns
    -------
    loss : Tensor
        Mean over the valid records.
    outputs : Tensor (B, ...)
        Detached, as the loss.
    """
    records = torch.stack([part.valid.sum() for part in parts])
    shares = records / records.sum()
    losses, outputs = [], []
    for part, share in zip(parts, shares, strict=True):
        with autocast():
            loss, output = task.loss(model, part)
        (loss * share).backward()  # adds to the gradients of the parts before
        losses.append(loss.detach())
        outputs.append(output.detach())
    return (torch.stack(losses) * shares).sum(), torch.cat(outputs)


def parts_of(records: int, size: int | None) -> int:
    """Parts of a batch that is split into parts of at most `size` records; None takes it as it is."""
    return math.ceil(records / (size or records))


def smallest_part(records: int, size: int | None) -> int:
    """Records in the smallest of those parts."""
    return records // parts_of(records, size)


def check_takes_one_record(model: nn.Module, record: Tensor) -> None:
    """Refuse a model that cannot be trained on one record at a time.

    Parameters
    ----------
    model
        Left as it is.
    record
        (1, C, T).

    Raises
    ------
    UserError
        If a batch normalization in it would see a single value of each channel, whose variance is none.
    """
    try:
        with torch.no_grad():
            deepcopy(model).train()(record)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            "trainer.batch_size or micro_batch leaves one record to a forward pass, and a batch normalization of this "
            "model would see one value a channel, which has no variance: expected 2 or more, or a model without it."
        ) from None
