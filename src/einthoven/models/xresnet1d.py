"""xresnet1d101: the architecture that leads the published PTB-XL benchmark."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from einthoven.models.blocks import Bottleneck, ConcatPool, ConvNormAct, linear, to_image


class XResNet1d(nn.Module):
    """A residual network with the tweaks of He et al. 2019 ("Bag of tricks"), in one dimension.

    A stem of three convolutions, stages of bottlenecks whose channels do not grow with depth, and a
    head with one hidden layer on the concatenated maximum and mean.

    Stages (direct children): ``stem``, ``stage1``, ``stage2``, and so on, ``pool``, ``head``.

    Parameters
    ----------
    in_channels
        Channels that the frontend hands over.
    num_classes
        Logits.
    blocks
        Bottlenecks in each stage; every stage after the first halves the time axis.
    stem
        Channels of the stem's convolutions; the first halves the time axis, and so does the pooling after
        them.
    width, kernel
        Channels and odd kernel width inside a bottleneck.
    hidden
        Features of the head's hidden layer.
    dropouts
        Probabilities before the head's two linear layers.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        blocks: Sequence[int],
        stem: Sequence[int] = (32, 32, 64),
        width: int = 64,
        kernel: int = 5,
        hidden: int = 128,
        dropouts: tuple[float, float] = (0.25, 0.5),
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        channels = in_channels
        for i, out in enumerate(stem):
            self.stem.append(ConvNormAct(channels, out, kernel, stride=2 if i == 0 else 1))
            channels = out
        self.stem.append(nn.MaxPool2d((1, 3), stride=(1, 2), padding=(0, 1)))
        for i, depth in enumerate(blocks):
            stage = nn.Sequential()
            for j in range(depth):
                stage.append(Bottleneck(channels, width, kernel, stride=2 if i > 0 and j == 0 else 1))
                channels = Bottleneck.expansion * width
            self.add_module(f"stage{i + 1}", stage)
        self.pool = ConcatPool()
        self.head = nn.Sequential(
            nn.BatchNorm1d(2 * channels),
            nn.Dropout(dropouts[0]),
            linear(2 * channels, hidden),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(hidden),
            nn.Dropout(dropouts[1]),
            linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to logits ``[B, num_classes]``."""
        x = to_image(x)
        for stage in self.children():
            x = stage(x)
        return x


def xresnet1d101(
    in_channels: int,
    num_classes: int,
    *,
    width: int = 64,
    kernel: int = 5,
    hidden: int = 128,
    dropouts: tuple[float, float] = (0.25, 0.5),
) -> XResNet1d:
    """Build the benchmark's xresnet1d101 (Strodthoff et al. 2021, doi 10.1109/jbhi.2020.3022989).

    3-4-23-3 bottlenecks: 1.87 M parameters at 5 classes, 1.88 M at 71, with 12 channels in. The parameters are
    those of `XResNet1d`.
    """
    return XResNet1d(
        in_channels,
        num_classes,
        blocks=(3, 4, 23, 3),
        width=width,
        kernel=kernel,
        hidden=hidden,
        dropouts=dropouts,
    )
