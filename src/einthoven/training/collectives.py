"""The messages of `torch.distributed` that a training needs. One error says that another process has ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch.distributed as dist
from torch import Tensor

_SIGNS = ("connection", "timed out", "timeout", "peer", "socket", "broken pipe")
"""Words in the errors of torch about a process that has ended. Gloo raises a plain RuntimeError."""


class LostProcessError(Exception):
    """Another process has ended, or does not answer."""

    def __init__(self) -> None:
        # The text of torch names addresses.
        super().__init__("another process has ended or does not answer")


def all_reduce(tensor: Tensor) -> None:
    """Replace a tensor by its sum over the processes."""
    with lost_process():
        dist.all_reduce(tensor)


def all_gather(parts: Sequence[Tensor], own: Tensor) -> None:
    """Write the tensor of each process into its part."""
    with lost_process():
        dist.all_gather(list(parts), own)


def broadcast(tensor: Tensor) -> None:
    """Give a tensor the values that it has in the first process."""
    with lost_process():
        dist.broadcast(tensor, src=0)


@contextmanager
def lost_process() -> Iterator[None]:
    """Turn an error of torch about a process that has ended into a `LostProcessError`."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).lower()
        if not isinstance(error, dist.DistError) and not any(sign in reason for sign in _SIGNS):
            raise
        raise LostProcessError from error
