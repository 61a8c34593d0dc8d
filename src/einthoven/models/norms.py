"""Normalization layers by name: the `norm` option of the networks.

``batch`` normalizes a channel over the batch and the time axis. In evaluation it uses running statistics (Ioffe and
Szegedy 2015). The other norms depend on one record only, and are the same in training and evaluation. ``layer`` and
``rms`` normalize over the channels of each time step (Ba et al. 2016; Zhang and Sennrich 2019, without subtracting the
mean). ``group`` normalizes over the time axis and groups of channels (Wu and He 2018). ``none`` changes nothing.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from einthoven.errors import UserError

NORMS = ("batch", "layer", "group", "rms", "none")
TOKEN_NORMS = ("layer", "rms", "none")


def check_norm(name: str, known: tuple[str, ...] = NORMS, option: str = "norm") -> None:
    """Raise a `UserError` if a name is not in `known`."""
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
        """Map ``[B, C, 1, T]`` to ``[B, C, 1, T]``. There is no copy if the image is channels last in memory."""
        normed: Tensor = self.norm(image.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


def image_norm(name: str, channels: int) -> nn.Module:
    """Build the norm of images ``[B, C, 1, T]``."""
    check_norm(name)
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "layer":
        return ChannelsFirst(nn.LayerNorm(channels))
    if name == "rms":
        return ChannelsFirst(nn.RMSNorm(channels))
    if name == "group":
        return nn.GroupNorm(_groups(channels), channels)
    return nn.Identity()


def feature_norm(name: str, features: int) -> nn.Module:
    """Build the norm of feature vectors ``[B, D]``. The norms in `TOKEN_NORMS` also accept tokens ``[B, N, D]``."""
    check_norm(name)
    if name == "batch":
        return nn.BatchNorm1d(features)
    if name == "layer":
        return nn.LayerNorm(features)
    if name == "rms":
        return nn.RMSNorm(features)
    if name == "group":
        return nn.GroupNorm(_groups(features), features)
    return nn.Identity()


def _groups(channels: int) -> int:
    """Return the number of groups. A group has 16 channels (Wu and He 2018, table 3), or more if 16 does not divide."""
    return math.gcd(max(channels // 16, 1), channels)
