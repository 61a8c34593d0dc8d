"""The two convolutional baselines of Wang, Yan and Oates, "Time series classification from scratch", 2017.

The head, and the strides of the residual network, are those of the PTB-XL benchmark (Strodthoff et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.models.activations import activation_layer
from einthoven.models.blocks import ConcatPool, ConvNormAct, ImageStages, head


class PlainResidualBlock(nn.Module):
    """Two convolutions with kernels 5 and 3, and a shortcut with a convolution if the stride is not 1.

    He et al. 2016. In contrast to `blocks.ResidualBlock`, the shortcut does not average, and the branch does not start
    at zero.
    """

    branches = ("branch",)

    def __init__(self, channels: int, stride: int, *, activation: str, norm: str) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ConvNormAct(channels, channels, 5, stride, activation=activation, norm=norm),
            ConvNormAct(channels, channels, 3, activation=None, norm=norm),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = ConvNormAct(channels, channels, 1, stride, activation=None, norm=norm)
        self.act = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, 1, T]`` to ``[B, C, 1, ceil(T / stride)]``."""
        return self.act(self.shortcut(x) + self.branch(x))


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
    """Build the resnet1d_wang of the benchmark. With 12 channels and 5 classes it has 0.47 M parameters.

    It has a stem with kernel 7 that keeps the length, and three residual blocks. The second and third block halve the
    length.

    Stages (direct children): ``stem``, ``block1``, ``block2``, ``block3``, ``pool``, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        Channels of the signal; number of logits.
    width, hidden
        Channels of each convolution; features of the hidden layer in the head.
    dropouts
        Dropout probabilities before the two linear layers of the head.
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
    """Build the fcn_wang of the benchmark. With 12 channels and 5 classes it has 0.31 M parameters.

    This fully convolutional network has convolutions that keep the length of the signal, then the pooling and the head.

    Stages (direct children): ``conv1``, ``conv2``, ``conv3``, ``pool``, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        Channels of the signal; number of logits.
    channels, kernels
        Channels and kernels of the convolutions. Both lists have the same length.
    hidden
        Features of the hidden layer in the head.
    dropouts
        Dropout probabilities before the two linear layers of the head.
    activation, norm
        Names, as in `einthoven.models.activations` and `einthoven.models.norms`.

    Raises
    ------
    UserError
        If the two lists have different lengths.
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
