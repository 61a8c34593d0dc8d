"""What every augmentation is, and the draws that they share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from dataclasses import is_dataclass
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from einthoven.errors import UserError

LARGEST = 1_000_000
"""Of a strength or a length in seconds: no record is as long, and no signal as strong."""


class Augmentation(Protocol):
    """What the training asks of an augmentation."""

    @property
    def changes(self) -> frozenset[str]:
        """SCP-ECG statements that it can make true or false; empty where labels survive."""

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Map signals ``[B, L, T]`` and labels ``[B, K]`` to augmented ones."""


def check_options(name: str, transform: Augmentation) -> None:
    """Refuse options of a transform that make no sense, by the names that the transforms share.

    Raises
    ------
    UserError
        If a sampling frequency or a shape `alpha` is not above 0, a share that is taken away is not below 1, or a
        length or a strength is negative or beyond `LARGEST`.
    """
    options: dict[str, object] = vars(transform) if is_dataclass(transform) else {}
    for option, value in options.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if option in ("fs", "alpha") and not 0 < value < math.inf:
            raise UserError(f"augment.transforms.{name}.{option}={value}: expected a number above 0.")
        if option in ("max_cut", "max_loss") and not 0 <= value < 1:
            raise UserError(f"augment.transforms.{name}.{option}={value}: expected a share from 0 to below 1.")
        if option in ("seconds", getattr(transform, "strength", "")) and not 0 <= value <= LARGEST:
            raise UserError(
                f"augment.transforms.{name}.{option}={value}: expected a number of at least 0, and at most {LARGEST:,}."
            )


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
