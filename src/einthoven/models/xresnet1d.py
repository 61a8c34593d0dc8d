"""The xresnet1d family. In the published PTB-XL benchmark, xresnet1d101 is the best convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from einthoven.errors import UserError
from einthoven.models.blocks import Bottleneck, ConcatPool, ConvNormAct, ImageStages, ResidualBlock, check_depth, head


class XResNet1d(ImageStages):
    """The residual networks of the benchmark: the tweaks of He et al. 2019 ("Bag of tricks"), in one dimension.

    Sizes with 12 channels and 5 classes (Strodthoff et al. 2021, doi 10.1109/jbhi.2020.3022989): xresnet1d18 has
    2-2-2-2 blocks of two convolutions and 0.36 M parameters, xresnet1d50 has 3-4-6-3 bottlenecks and 0.95 M parameters,
    xresnet1d101 has 3-4-23-3 bottlenecks and 1.87 M parameters.

    A network has a stem of three convolutions, then stages of residual blocks with the same number of channels, and a
    head with one hidden layer on the concatenated maximum and mean.

    Stages (direct children): ``stem``, ``stage1``, ``stage2``, and so on, ``pool``, ``head``.

    Parameters
    ----------
    in_channels
        Channels of the output of the frontend.
    num_classes
        Number of logits.
    bottleneck
        True: the blocks are `Bottleneck`. False: the blocks are `ResidualBlock`.
    blocks
        Number of blocks in each stage. Each stage after the first halves the time axis.
    stem
        Channels of the convolutions in the stem. The first one and the pooling at the end halve the time axis.
    width, kernel
        Channels and odd kernel width inside a block.
    hidden
        Features of the hidden layer in the head.
    dropouts
        Dropout probabilities before the two linear layers of the head.
    activation, norm
        Names, as in `einthoven.models.activations` and `einthoven.models.norms`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        bottleneck: bool,
        blocks: Sequence[int],
        stem: Sequence[int] = (32, 32, 64),
        width: int = 64,
        kernel: int = 5,
        hidden: int = 128,
        dropouts: Sequence[float] = (0.25, 0.5),
        activation: str = "relu",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise UserError(f"model.kernel={kernel}: expected an odd number of samples.")
        block: type[ResidualBlock] | type[Bottleneck] = Bottleneck if bottleneck else ResidualBlock
        self.stem = nn.Sequential()
        channels = in_channels
        for i, out in enumerate(stem):
            stride = 2 if i == 0 else 1
            self.stem.append(ConvNormAct(channels, out, kernel, stride, activation=activation, norm=norm))
            channels = out
        self.stem.append(nn.MaxPool2d((1, 3), stride=(1, 2), padding=(0, 1)))
        for i, depth in enumerate(blocks):
            check_depth("blocks", depth)
            stage = nn.Sequential()
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(block(channels, width, kernel, stride, activation=activation, norm=norm))
                channels = block.expansion * width
            self.add_module(f"stage{i + 1}", stage)
        self.pool = ConcatPool()
        self.head = head(2 * channels, num_classes, hidden=hidden, dropouts=dropouts, activation=activation, norm=norm)
