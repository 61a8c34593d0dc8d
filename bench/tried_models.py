"""Networks that were tried in the place of a part of the default network, and that `docs/results.md` reports.

They are recipes of `bench_recipes.py`, as `model._target_=tried_models.MultiScaleStem`. None is an option of the
package, because none is shown to make the model better.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from einthoven.models.blocks import ConvNormAct
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.s4d import S4DBlock

KERNELS = (7, 15, 31, 63)
"""Kernel widths of `MultiScaleConv` in samples: .07, .15, .31 and .63 s at 100 Hz."""


class MultiScaleConv(nn.Module):
    """Convolutions of several widths side by side. Each yields its share of the channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        share = out_channels // len(KERNELS)
        self.scales = nn.ModuleList(ConvNormAct(in_channels, share, kernel, 2) for kernel in KERNELS)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[B, in_channels, 1, T]`` to ``[B, out_channels, 1, ceil(T / 2)]``."""
        return torch.cat([scale(image) for scale in self.scales], dim=1)


class SharedLeadConv(nn.Module):
    """One convolution that reads each lead alone, with the same weights, and a layer that mixes the leads.

    It reads leads, and therefore needs ``pca=none``.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, features: int = 8) -> None:
        super().__init__()
        self.lead = ConvNormAct(1, features, kernel, 2)
        self.mix = ConvNormAct(in_channels * features, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[B, leads, 1, T]`` to ``[B, out_channels, 1, ceil(T / 2)]``."""
        batch, leads, height, samples = image.shape
        alone = self.lead(image.reshape(batch * leads, 1, height, samples))
        mixed: Tensor = self.mix(alone.reshape(batch, -1, height, alone.shape[3]))
        return mixed


class MultiScaleStem(ConvAttention):
    """The default network with convolutions of several widths as its stem."""

    def __init__(self, in_channels: int, num_classes: int, **options: Any) -> None:
        super().__init__(in_channels, num_classes, **options)
        self.stem = MultiScaleConv(in_channels, options["channels"][0])


class SharedLeadStem(ConvAttention):
    """The default network with one stem that all leads share."""

    def __init__(self, in_channels: int, num_classes: int, **options: Any) -> None:
        super().__init__(in_channels, num_classes, **options)
        self.stem = SharedLeadConv(in_channels, options["channels"][0], options["stem_kernel"])


class ConvS4D(ConvAttention):
    """The default network with state spaces in the place of the transformer."""

    def __init__(self, in_channels: int, num_classes: int, **options: Any) -> None:
        super().__init__(in_channels, num_classes, **options)
        width = options["channels"][-1]
        self.attention = nn.Sequential(S4DBlock(width, 4, activation="gelu", norm="layer", dropout=options["dropout"]))


class DenseWindows(ConvAttention):
    """The default network, which reads a record in windows that start a quarter, and not a half, of a window apart."""

    def _window_tokens(self, x: Tensor) -> Tensor:
        """Map a signal to the inputs ``[B n, N, D]`` of the transformer for its n windows, record by record."""
        tokens = self.local_tokens(x)
        length = self._window_length(tokens.shape[1])
        windows = tokens.unfold(1, length, max(length // 4, 1)).transpose(2, 3)
        return windows.flatten(0, 1)
