"""Functions that several tasks share: the check of a loss, names in sentences, the negative control."""

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
    """Refuse a loss that does not fit the outputs of a task. No data are needed.

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
        If the loss refuses the outputs, or does not return one value per record.
    """
    value = objective(torch.zeros_like(y), y, output=output, prior=None)
    if value.shape != y.shape[:1]:
        raise UserError(f"loss: one value per record is expected, found {tuple(value.shape)} for {len(y)} records.")


def join_names(names: Sequence[str]) -> str:
    """Return names for a sentence: the first ten names, and the number of the others."""
    text = " ".join(names[:10])
    if len(names) > 10:
        text += f" and {len(names) - 10} more"
    return text


def permute(y: NDArray[Number], seed: int) -> NDArray[Number]:
    """Return labels in a random order, so that they belong to other records."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    return y[order.numpy()]
