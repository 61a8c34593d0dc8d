"""What every augmentation is, and the draws that they share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Generator, Tensor


class Augmentation(Protocol):
    """What the training asks of an augmentation."""

    @property
    def changes(self) -> frozenset[str]:
        """SCP-ECG statements that it can make true or false; empty where labels survive."""

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Map signals ``[B, L, T]`` and labels ``[B, K]`` to augmented ones."""


def uniform(x: Tensor, shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    """Draw from ``[low, high)``, on the device and in the dtype of `x`."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)


def normal(x: Tensor, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw from the standard normal distribution, on the device and in the dtype of `x`."""
    return torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)


def chosen(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Which records an augmentation touches, ``[B, 1, 1]``."""
    return torch.rand((x.shape[0], 1, 1), generator=generator, device=x.device) < probability


def constant(make: Callable[..., NDArray[Any]], *arguments: Hashable, like: Tensor) -> Tensor:
    """Return the array ``make(*arguments)`` as a tensor like `like`: copied to its device once, not at each step."""
    return _constant(make, arguments, like.device, like.dtype)


@functools.lru_cache(maxsize=64)  # small tables, and not ever more of them
def _constant(
    make: Callable[..., NDArray[Any]], arguments: tuple[Hashable, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    with torch.inference_mode(False):  # else whoever comes first would decide whether gradients may pass
        return torch.tensor(make(*arguments), device=device, dtype=dtype)
