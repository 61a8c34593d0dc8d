"""What tasks of several kinds share: the check of a loss, names in sentences, and the negative control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.errors import UserError

Number = TypeVar("Number", bound=np.generic)


def check_objective(objective: Callable[..., Tensor], y: Tensor, output: str) -> None:
    """Refuse, before any data are read, a loss that does not fit the outputs of a task.

    Parameters
    ----------
    objective : callable
        ``f(outputs, y, output=…, prior=…)``.
    y : Tensor (B, ...)
        Targets of made-up records.
    output : str
        sigmoid, softmax or identity.

    Raises
    ------
    UserError
        The loss's own sentence; or ours, if it does not return one value per record.
    """
    value = objective(torch.zeros_like(y), y, output=output, prior=None)
    if value.shape != y.shape[:1]:
        raise UserError(f"loss: one value per record is expected, found {tuple(value.shape)} for {len(y)} records.")


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names in a sentence, of many the first."""
    return " ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def permuted(y: NDArray[Number], seed: int) -> NDArray[Number]:
    """Labels, each given to another record."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    shuffled: NDArray[Number] = y[order.numpy()]
    return shuffled
