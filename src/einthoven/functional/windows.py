"""Windows: the parts of a record that the network reads at once.

`cut_windows` cuts a record, `apply_to_windows` calls the network on each window, and `aggregate_windows` makes one
prediction of those of the windows. Training, evaluation, prediction, explanation and export all use these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.errors import UserError
from einthoven.functional.conform import window_starts

Values = TypeVar("Values", Tensor, NDArray[np.float64])


def cut_windows(x: Tensor, window: int, stride: int) -> Tensor:
    """Cut records into windows. The last window ends where the record ends.

    Parameters
    ----------
    x : Tensor, shape (B, C, T)
        The records.
    window, stride : int
        Length of a window, and distance between the first samples of two windows, in samples.

    Returns
    -------
    Tensor, shape (B, W, C, window)

    Raises
    ------
    UserError
        If a window is longer than the records.
    """
    last = x.shape[-1] - window
    if last < 0:
        raise UserError(f"a window of {window} samples is longer than the records, which have {x.shape[-1]}.")
    starts = window_starts(last, stride, "slide").tolist()
    return torch.stack([x[..., start : start + window] for start in starts], dim=1)


def apply_to_windows(model: Callable[[Tensor], Any], x: Tensor, window: int, stride: int) -> Tensor:
    """Call a model on each window of each record: (B, C, T) to outputs (B, W, ...).

    Parameters
    ----------
    model : callable
        (N, C, window) to outputs (N, ...).
    x, window, stride
        As in `cut_windows`.
    """
    windows = cut_windows(x, window, stride)
    outputs: Tensor = model(windows.flatten(0, 1))
    return outputs.reshape(-1, windows.shape[1], *outputs.shape[1:])


def aggregate_windows(values: Values, rule: str, axis: int = 1) -> Values:
    """Return the mean or the maximum of the predictions of the windows of a record.

    Parameters
    ----------
    values : Tensor or ndarray
        Predictions of each window.
    rule : {'mean', 'max'}
    axis : int
        The axis of the windows. The result does not have it.
    """
    aggregate: Values
    if rule == "mean":
        aggregate = values.mean(axis)
    elif isinstance(values, Tensor):
        aggregate = values.amax(axis)
    else:
        aggregate = values.max(axis)
    return aggregate
