"""Norms of sets of tensors, each set seen as one long vector; nothing here waits for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor
from torch.nn.utils import get_total_norm


def global_norm(tensors: Iterable[Tensor]) -> Tensor:
    """L2 norm of all elements of all tensors, as a scalar tensor; 0 for no tensor."""
    return get_total_norm(list(tensors))


def rms(tensors: Iterable[Tensor]) -> Tensor:
    """Root mean square of all elements of all tensors, as a scalar tensor.

    Raises
    ------
    ValueError
        If there is no element to average over.
    """
    vectors = list(tensors)
    count = sum(tensor.numel() for tensor in vectors)
    if count == 0:
        raise ValueError("the root mean square of no elements is undefined")
    return global_norm(vectors) / math.sqrt(count)
