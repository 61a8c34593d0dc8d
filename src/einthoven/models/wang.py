"""The two convolutional baselines of Wang, Yan and Oates, "Time series classification from scratch", 2017.

With the head, and in the residual network the strides, that the PTB-XL benchmark gave them (Strodthoff et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.models.activations import activation_layer
from einthoven.models.blocks import ConcatPool, ConvNormAct, ImageStages, head


class PlainResidualBlock(nn.Module):
    """Two convolutions of kernels 5 and 3, and a shortcut that is convolved wherever the block strides.

    He et al. 2016, without the averaging shortcut and the silent start of `blocks.ResidualBlock`.
    """

    branches = ("branch",)

    def __init__(self, channels: int, stride: int, *, activation: str, norm: str) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ConvNormAct(channels, channels, 5, stride, activation=activation, norm=norm),
            ConvNormAct(channels, channels, 3, activation=None, norm=norm),
        )
        self.shortcut = (
            nn.Identity() if stride == 1 else ConvNormAct(channels, channels, 1, stride, activation=None, norm=norm)
        )
        self.act = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, 1, T]`` to ``[B, C, 1, ceil(T / stride)]``."""
        out: Tensor = self.act(self.shortcut(x) + self.branch(x))
        return out


def resnet1d_wang(
    in_channels: int,
    num_classes: int,
    *,
    width: int = 128,
    hidden: int = 128,
    dropouts: Sequence[float] = (0.25, 0.5),
    activation: str = "relu",
    norm: str = "batch",
) -> nn.Module:
    """Build the benchmark's resnet1d_wang: 0.47 M parameters at 5 classes, with 12 channels in.

    A stem of kernel 7 that keeps the length, and three residual blocks, of which the second and third halve it.

    Stages (direct children): ``stem``, ``block1``, ``block2``, ``block3``, ``pool``, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        In and out.
    width, hidden
        Channels of every convolution; features of the head's hidden layer.
    dropouts
        Probabilities before the head's two linear layers.
    activation, norm
        Names, as in `einthoven.models.activations` and `einthoven.models.norms`.
    """
    model = ImageStages()
    model.add_module("stem", ConvNormAct(in_channels, width, 7, activation=activation, norm=norm))
    for i, stride in enumerate((1, 2, 2)):
        model.add_module(f"block{i + 1}", PlainResidualBlock(width, stride, activation=activation, norm=norm))
    model.add_module("pool", ConcatPool())
    model.add_module(
        "head", head(2 * width, num_classes, hidden=hidden, dropouts=dropouts, activation=activation, norm=norm)
    )
    return model


def fcn_wang(
    in_channels: int,
    num_classes: int,
    *,
    channels: Sequence[int] = (128, 256, 128),
    kernels: Sequence[int] = (8, 5, 3),
    hidden: int = 128,
    dropouts: Sequence[float] = (0.25, 0.5),
    activation: str = "relu",
    norm: str = "batch",
) -> nn.Module:
    """Build the benchmark's fcn_wang, a fully convolutional network: 0.31 M parameters at 5 classes, 12 channels in.

    Convolutions that keep the length of the signal, then the pooling and the head.

    Stages (direct children): ``conv1``, ``conv2``, ``conv3``, ``pool``, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        In and out.
    channels, kernels
        Of the convolutions, as many of one as of the other.
    hidden
        Features of the head's hidden layer.
    dropouts
        Probabilities before the head's two linear layers.
    activation, norm
        Names, as in `einthoven.models.activations` and `einthoven.models.norms`.

    Raises
    ------
    UserError
        If there are not as many kernels as channels.
    """
    if len(channels) != len(kernels) or not channels:
        raise UserError(f"model: channels={list(channels)}, kernels={list(kernels)}: expected as many of both.")
    model = ImageStages()
    before = in_channels
    for i, (after, kernel) in enumerate(zip(channels, kernels, strict=True)):
        model.add_module(f"conv{i + 1}", ConvNormAct(before, after, kernel, activation=activation, norm=norm))
        before = after
    model.add_module("pool", ConcatPool())
    model.add_module(
        "head", head(2 * before, num_classes, hidden=hidden, dropouts=dropouts, activation=activation, norm=norm)
    )
    return model
