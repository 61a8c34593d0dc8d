"""The xresnet1d family; its xresnet1d101 leads the published PTB-XL benchmark among convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from einthoven.errors import UserError
from einthoven.models.blocks import Bottleneck, ConcatPool, ConvNormAct, ImageStages, ResidualBlock, check_depth, head


class XResNet1d(ImageStages):
    """The benchmark's residual networks: the tweaks of He et al. 2019 ("Bag of tricks"), in one dimension.

    Parameters with 12 channels in and 5 classes (Strodthoff et al. 2021, doi 10.1109/jbhi.2020.3022989): xresnet1d18
    is 2-2-2-2 blocks of two convolutions, 0.36 M; xresnet1d50 3-4-6-3 bottlenecks, 0.95 M; xresnet1d101 3-4-23-3
    bottlenecks, 1.87 M.

    A stem of three convolutions, stages of residual blocks whose channels do not grow with depth, and a head with one
    hidden layer on the concatenated maximum and mean.

    Stages (direct children): ``stem``, ``stage1``, ``stage2``, and so on, ``pool``, ``head``.

    Parameters
    ----------
    in_channels
        Channels that the frontend hands over.
    num_classes
        Logits.
    bottleneck
        Blocks are a `Bottleneck` each, or a `ResidualBlock`.
    blocks
        Blocks in each stage; every stage after the first halves the time axis.
    stem
        Channels of the stem's convolutions; the first halves the time axis, and so does the pooling after
        them.
    width, kernel
        Channels and odd kernel width inside a block.
    hidden
        Features of the head's hidden layer.
    dropouts
        Probabilities before the head's two linear layers.
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
