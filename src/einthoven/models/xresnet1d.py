"""xresnet1d101: the architecture that leads the published PTB-XL benchmark."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from einthoven.models.blocks import Bottleneck, ConcatPool, ConvNormAct, linear


class XResNet1d(nn.Module):
    """A residual network with the tweaks of He et al. 2019 ("Bag of tricks"), in one dimension.

    With its defaults it is the xresnet1d101 of Strodthoff et al. 2021 (doi 10.1109/jbhi.2020.3022989): a
    stem of three convolutions, 3-4-23-3 bottlenecks of width 64 (channels do not grow with depth), and a
    head on the concatenated maximum and mean. 1.87 M parameters at 5 classes, 1.88 M at 71.

    Stages (direct children): ``stem``, ``stage1`` to ``stage4``, ``pool``, ``head``.

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
        blocks: Sequence[int] = (3, 4, 23, 3),
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
        self.stem.append(nn.MaxPool1d(3, stride=2, padding=1))
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
        for stage in self.children():
            x = stage(x)
        return x
