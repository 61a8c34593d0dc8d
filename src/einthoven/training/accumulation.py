"""Gradient accumulation: the gradient of a batch that does not fit through the model at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields

import torch
from torch import Tensor, nn

from einthoven.contracts import Autocast, Batch, Task
from einthoven.errors import UserError


def split_batch(batch: Batch, size: int | None) -> list[Batch]:
    """Split a batch into the fewest parts of at most `size` records; the part sizes differ by at most one."""
    count = count_parts(len(batch.x), size)
    columns = (getattr(batch, f.name).tensor_split(count) for f in fields(batch))
    return [type(batch)(*values) for values in zip(*columns, strict=True)]


def backward(model: nn.Module, task: Task, parts: Sequence[Batch], autocast: Autocast) -> tuple[Tensor, Tensor]:
    """Accumulate the gradient of the mean loss of a batch, part by part, in the parameters of the model.

    The gradient is the one of the whole batch if the loss is a mean over records and the model treats each record by
    itself. Batch normalization does not: it computes its statistics on each part.

    Returns
    -------
    loss : Tensor
        Mean over the valid records, detached.
    outputs : Tensor (B, ...)
        Outputs of the model, detached.
    """
    valid_records = torch.stack([part.valid.sum() for part in parts])
    shares = valid_records / valid_records.sum()
    losses = []
    outputs = []
    for part, share in zip(parts, shares, strict=True):
        with autocast():
            loss, output = task.loss(model, part)
        # `backward` adds to the gradients of the previous parts.
        (loss * share).backward()
        losses.append(loss.detach())
        outputs.append(output.detach())
    return (torch.stack(losses) * shares).sum(), torch.cat(outputs)


def count_parts(records: int, size: int | None) -> int:
    """Return the number of parts of a batch that is split into parts of at most `size` records; None does not split."""
    return math.ceil(records / (size or records))


def check_takes_one_record(model: nn.Module, record: Tensor) -> None:
    """Refuse a model that cannot be trained on one record at a time.

    Parameters
    ----------
    model : nn.Module
        Is not changed.
    record : Tensor (1, C, T)

    Raises
    ------
    UserError
        If a batch normalization would see one value per channel, which has no variance.
    """
    try:
        with torch.no_grad():
            deepcopy(model).train()(record)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            "a batch or a micro batch holds one record, and a batch normalization of this model would see one value "
            "per channel, which has no variance. Expected 2 or more records, or a model without batch normalization."
        ) from None
