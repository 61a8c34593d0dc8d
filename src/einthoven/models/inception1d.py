"""InceptionTime: parallel convolutions of several widths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.models.activations import activation_layer, init_weight
from einthoven.models.blocks import ConcatPool, ConvNormAct, ImageStages, check_depth, head
from einthoven.models.norms import image_norm


class InceptionBlock(nn.Module):
    """Parallel convolutions of several widths after a 1x1 bottleneck, and a 1x1 convolution of a local maximum.

    Ismail Fawaz et al. 2020, "InceptionTime", figure 2.
    """

    def __init__(
        self, in_channels: int, filters: int, bottleneck: int, kernels: Sequence[int], *, activation: str, norm: str
    ) -> None:
        super().__init__()
        self.bottleneck = _conv(in_channels, bottleneck, 1)
        self.convs = nn.ModuleList(_conv(bottleneck, filters, kernel) for kernel in kernels)
        self.maximum = nn.Sequential(nn.MaxPool2d((1, 3), (1, 1), (0, 1)), _conv(in_channels, filters, 1))
        self.norm = image_norm(norm, (len(kernels) + 1) * filters)
        self.act = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, 1, T]`` to ``[B, (widths + 1) * filters, 1, T]``."""
        narrow = self.bottleneck(x)
        parallel = [conv(narrow) for conv in self.convs]
        parallel.append(self.maximum(x))
        return self.act(self.norm(torch.cat(parallel, dim=1)))


class InceptionGroup(nn.Module):
    """Three inception blocks, and a 1x1 convolution as the shortcut around them."""

    branches = ("branch",)

    def __init__(
        self, in_channels: int, filters: int, bottleneck: int, kernels: Sequence[int], *, activation: str, norm: str
    ) -> None:
        super().__init__()
        channels = (len(kernels) + 1) * filters
        self.branch = nn.Sequential()
        for before in (in_channels, channels, channels):
            self.branch.append(InceptionBlock(before, filters, bottleneck, kernels, activation=activation, norm=norm))
        self.shortcut = ConvNormAct(in_channels, channels, 1, activation=None, norm=norm)
        self.act = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, 1, T]`` to ``[B, (widths + 1) * filters, 1, T]``."""
        return self.act(self.branch(x) + self.shortcut(x))


class Inception1d(ImageStages):
    """The inception1d of the benchmark. With 12 channels it has 0.51 M parameters for 5 classes, 0.52 M for 71.

    Strodthoff et al. 2021, after Ismail Fawaz et al. 2020. The signal keeps its length up to the pooling.

    Stages (direct children): ``group1``, ``group2``, and so on, ``pool``, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        Channels of the signal; number of logits.
    depth
        Number of inception blocks, a multiple of 3. Three blocks form a group with a shortcut around it.
    filters, bottleneck
        Channels of each parallel convolution; channels of the bottleneck before them.
    kernels
        Odd widths of the parallel convolutions, in samples.
    hidden
        Features of the hidden layer in the head.
    dropouts
        Dropout probabilities before the two linear layers of the head.
    activation, norm
        Names, as in `einthoven.models.activations` and `einthoven.models.norms`.

    Raises
    ------
    UserError
        If `depth` is not a multiple of 3, or a kernel is even.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        depth: int = 6,
        filters: int = 32,
        bottleneck: int = 32,
        kernels: Sequence[int] = (39, 19, 9),
        hidden: int = 128,
        dropouts: Sequence[float] = (0.25, 0.5),
        activation: str = "relu",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if depth < 3 or depth % 3:
            raise UserError(f"model.depth={depth}: expected a multiple of 3.")
        check_depth("depth", depth)
        if not kernels or any(kernel % 2 == 0 for kernel in kernels):
            raise UserError(f"model.kernels={list(kernels)}: expected odd numbers of samples.")
        channels = in_channels
        for i in range(depth // 3):
            group = InceptionGroup(channels, filters, bottleneck, kernels, activation=activation, norm=norm)
            self.add_module(f"group{i + 1}", group)
            channels = (len(kernels) + 1) * filters
        self.pool = ConcatPool()
        self.head = head(2 * channels, num_classes, hidden=hidden, dropouts=dropouts, activation=activation, norm=norm)


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, (1, kernel), padding=(0, kernel // 2), bias=False)
    init_weight(layer, None)
    return layer
