"""Normalization layers by their names: the `norm` option of the networks.

``batch`` normalises a channel over the batch and the time axis, and with running statistics in evaluation (Ioffe and
Szegedy 2015). The others look at one record alone and are the same in training and evaluation: ``layer`` and ``rms``
over the channels of each time step (Ba et al. 2016; Zhang and Sennrich 2019: no mean is taken off), ``group`` over the
time axis and groups of channels (Wu and He 2018). ``none`` leaves the signal as it is.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from einthoven.errors import UserError

NORMS = ("batch", "layer", "group", "rms", "none")
TOKEN_NORMS = ("layer", "rms", "none")


def check_norm(name: str, known: tuple[str, ...] = NORMS, option: str = "norm") -> None:
    """Refuse a name that is not known.

    Raises
    ------
    UserError
    """
    if name not in known:
        raise UserError(f"model: {option}={name}: expected one of {', '.join(known)}.")


class ChannelsFirst(nn.Module):
    """Apply a norm of the last axis to the second axis: images ``[B, C, 1, T]``."""

    def __init__(self, norm: nn.LayerNorm | nn.RMSNorm) -> None:
        super().__init__()
        self.norm = norm

    @property
    def weight(self) -> nn.Parameter:
        """Gains of the norm."""
        return self.norm.weight

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[B, C, 1, T]`` to ``[B, C, 1, T]``; no copy where it lies channels last in memory."""
        normed: Tensor = self.norm(image.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


def image_norm(name: str, channels: int) -> nn.Module:
    """Build the norm of images ``[B, C, 1, T]``."""
    check_norm(name)
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name in ("layer", "rms"):
        return ChannelsFirst(nn.LayerNorm(channels) if name == "layer" else nn.RMSNorm(channels))
    return nn.Identity() if name == "none" else nn.GroupNorm(_groups(channels), channels)


def feature_norm(name: str, features: int) -> nn.Module:
    """Build the norm of feature vectors ``[B, D]``; those in `TOKEN_NORMS` take tokens ``[B, N, D]`` as well."""
    check_norm(name)
    if name == "batch":
        return nn.BatchNorm1d(features)
    if name in ("layer", "rms"):
        return nn.LayerNorm(features) if name == "layer" else nn.RMSNorm(features)
    return nn.Identity() if name == "none" else nn.GroupNorm(_groups(features), features)


def _groups(channels: int) -> int:
    """Groups of 16 channels each (Wu and He 2018, table 3), or of more where 16 does not divide them."""
    return math.gcd(max(channels // 16, 1), channels)
