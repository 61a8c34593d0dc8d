"""The interface of an augmentation, and functions that several augmentations use."""

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

MAX_VALUE = 1_000_000
"""Largest strength, and largest length in seconds. No record is so long, and no signal is so strong."""


class Augmentation(Protocol):
    """The interface of an augmentation."""

    @property
    def changes(self) -> frozenset[str]:
        """SCP-ECG statements that the augmentation can make wrong. Empty if all labels stay correct."""

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Augment signals ``[B, L, T]`` and labels ``[B, K]``."""


def keeps_masks(transform: object) -> bool:
    """Return whether a mask along the signal is still right after a transform.

    A transform that moves samples in time, or takes them from another record, has ``keeps_masks = False``.
    """
    return bool(getattr(transform, "keeps_masks", True))


def keeps_dipole(transform: object) -> bool:
    """Return whether the heart vector along the signal is still right after a transform.

    A transform that makes the heart stronger, or turns it, has ``keeps_dipole = False``.
    """
    return keeps_masks(transform) and bool(getattr(transform, "keeps_dipole", True))


def check_options(name: str, transform: Augmentation) -> None:
    """Refuse invalid values of the options that several transforms have.

    Raises
    ------
    UserError
        If a sampling frequency or a shape `alpha` is not above 0, if a share that is removed is not below 1, or if a
        length or a strength is negative or above `MAX_VALUE`.
    """
    options: dict[str, object] = vars(transform) if is_dataclass(transform) else {}
    for option, value in options.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if option in ("fs", "alpha") and not 0 < value < math.inf:
            raise UserError(f"augment.transforms.{name}.{option}={value}: expected a number above 0.")
        if option in ("max_cut", "max_loss") and not 0 <= value < 1:
            raise UserError(f"augment.transforms.{name}.{option}={value}: expected a share from 0 to below 1.")
        if option in ("seconds", getattr(transform, "strength", "")) and not 0 <= value <= MAX_VALUE:
            raise UserError(f"augment.transforms.{name}.{option}={value}: expected a number from 0 to {MAX_VALUE:,}.")


def uniform(x: Tensor, shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    """Draw from the uniform distribution on ``[low, high)``, with the device and dtype of `x`."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)


def normal(x: Tensor, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw from the standard normal distribution, with the device and dtype of `x`."""
    return torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)


def draw_records(x: Tensor, probability: float, generator: Generator) -> Tensor:
    """Draw the records that are augmented, as a mask ``[B, 1, 1]``."""
    return torch.rand((x.shape[0], 1, 1), generator=generator, device=x.device) < probability


def cached_tensor(make: Callable[..., NDArray[Any]], *arguments: Hashable, like: Tensor) -> Tensor:
    """Return the array ``make(*arguments)`` as a tensor with the device and dtype of `like`.

    The array is computed and copied to the device only once, not in every step.
    """
    return _make_tensor(make, arguments, like.device, like.dtype)


# The cache is limited, because each new argument adds an entry. The arrays are small.
@functools.lru_cache(maxsize=64)
def _make_tensor(
    make: Callable[..., NDArray[Any]], arguments: tuple[Hashable, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    # The first caller may be in inference mode. A later caller must be able to use the same tensor in autograd.
    with torch.inference_mode(False):
        return torch.tensor(make(*arguments), device=device, dtype=dtype)
