"""A one-dimensional U-Net: a network whose output runs along the signal, for masks of waves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.models.blocks import ConvNormAct, check_depth, to_image


class UNet1d(nn.Module):
    """The U-Net of Ronneberger et al. 2015 on the time axis.

    The encoder halves the time axis from level to level, so that a sample sees several seconds around it. The decoder
    doubles it again. At each level it also reads the features of the encoder, which still know the exact time. Unlike
    the original, the convolutions pad their input, so that the output is as long as the signal.

    Stages (direct children): ``down1``, ``down2``, and so on, ``up1`` (the coarsest), ``up2``, and so on, ``head``.

    Parameters
    ----------
    in_channels
        Channels of the output of the frontend.
    num_classes
        Number of masks.
    channels
        Channels of each level, from the finest to the coarsest. Two levels or more.
    kernel
        Odd number of samples of a convolution.
    activation, norm
        Names, as in `einthoven.models.activations` and `einthoven.models.norms`.

    Raises
    ------
    UserError
        If the kernel is even, or there are fewer than two levels.

    References
    ----------
    Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015;
    Moskalenko, Zolotykh & Osipov, "Deep learning for ECG segmentation", Neuroinformatics 2019 (in one dimension, on
    ECGs).
    """

    output_along_time: ClassVar[bool] = True
    """Whether the output has a value for each sample ``[B, K, T]``, instead of one for each record ``[B, K]``."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        channels: Sequence[int] = (16, 24, 32, 48, 64),
        kernel: int = 7,
        activation: str = "relu",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise UserError(f"model.kernel={kernel}: expected an odd number of samples.")
        if len(channels) < 2:
            raise UserError(f"model.channels={list(channels)}: expected the channels of two levels or more.")
        check_depth("channels", len(channels))
        self.levels = len(channels)

        before = in_channels
        for level, width in enumerate(channels, start=1):
            self.add_module(f"down{level}", _block(before, width, kernel, activation, norm))
            before = width
        for step, width in enumerate(reversed(channels[:-1]), start=1):
            self.add_module(f"up{step}", _block(before + width, width, kernel, activation, norm))
            before = width
        self.head = nn.Conv2d(before, num_classes, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, C, T]`` to logits ``[B, K, T]``."""
        samples = x.shape[2]
        image = to_image(x)

        # Each level halves the time axis. Repeat the last sample until the length can be halved at all levels.
        multiple = 2 ** (self.levels - 1)
        image = F.pad(image, (0, -samples % multiple, 0, 0), mode="replicate")

        fine_features = []
        for level in range(1, self.levels + 1):
            if level > 1:
                image = F.max_pool2d(image, (1, 2))
            image = self.get_submodule(f"down{level}")(image)
            fine_features.append(image)
        fine_features.pop()

        # The decoder joins the coarse features with those of the same level of the encoder.
        for step in range(1, self.levels):
            image = F.interpolate(image, scale_factor=(1.0, 2.0), mode="nearest")
            image = self.get_submodule(f"up{step}")(torch.cat([fine_features.pop(), image], dim=1))
        return self.head(image)[:, :, 0, :samples]


def _block(in_channels: int, out_channels: int, kernel: int, activation: str, norm: str) -> nn.Sequential:
    """Build the two convolutions of a level."""
    return nn.Sequential(
        ConvNormAct(in_channels, out_channels, kernel, activation=activation, norm=norm),
        ConvNormAct(out_channels, out_channels, kernel, activation=activation, norm=norm),
    )
