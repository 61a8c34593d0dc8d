"""Building blocks of the architectures: windows, convolutions, pooling, the head.

A signal ``[B, C, T]`` (batch, channels, time) passes through the convolutions as an image of height one,
``[B, C, 1, T]``, channels last in memory. Convolutions are fastest in that layout, on CPUs and GPUs (on a CPU, a
training step takes half to four fifths of the time). A sequence of tokens is ``[B, N, D]`` (batch, tokens, features).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.functional.shares import draw_rows
from einthoven.models.activations import activation_layer, init_weight
from einthoven.models.convolution import TimeConvolution
from einthoven.models.norms import feature_norm, image_norm


def random_window(x: Tensor, length: int) -> Tensor:
    """Cut ``[B, C, T]`` to ``[B, C, length]``, at a random position per record, drawn from torch's generator."""
    last = x.shape[2] - length
    start = draw_rows(x.shape[0], lambda rows: torch.randint(0, last + 1, (rows, 1, 1), device=x.device))
    samples = start + torch.arange(length, device=x.device)
    return x.gather(2, samples.expand(-1, x.shape[1], -1))


def overlapping_windows(tokens: Tensor, length: int) -> Tensor:
    """Cut ``[B, N, D]`` into n overlapping windows, ``[B, n, length, D]``.

    The distance between windows is even and at most half a window. The first window starts at the start of the record,
    and the last window ends at its end. 125 tokens make 7 windows of 32.
    """
    starts = window_starts(tokens.shape[1], length)
    return torch.stack([tokens[:, start : start + length] for start in starts], dim=1)


def window_starts(tokens: int, length: int) -> list[int]:
    """Return the first token of each window of `overlapping_windows`."""
    last_start = tokens - length
    steps = math.ceil(2 * last_start / length)
    return [last_start * i // max(steps, 1) for i in range(steps + 1)]


def to_image(signal: Tensor) -> Tensor:
    """Map ``[B, C, T]`` to an image of height one, ``[B, C, 1, T]``, channels last in memory."""
    return signal.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def to_tokens(image: Tensor) -> Tensor:
    """Map an image of height one ``[B, C, 1, T]`` to tokens ``[B, T, C]``."""
    return image.squeeze(2).transpose(1, 2)


MOST_LAYERS = 1000
"""Largest depth. A deeper network takes minutes to build, and training takes too long."""


def check_depth(option: str, depth: int, smallest: int = 1) -> None:
    """Refuse a number of layers or blocks below `smallest` or above `MOST_LAYERS`.

    Raises
    ------
    UserError
        Names the option of the model.
    """
    if not smallest <= depth <= MOST_LAYERS:
        raise UserError(f"model.{option}={depth}: expected a whole number from {smallest} to {MOST_LAYERS}.")


class ImageStages(nn.Sequential):
    """A sequence of stages that reads a signal as an image of height one. Its last two stages are `pool` and `head`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, C, T]`` to logits ``[B, K]``."""
        x = to_image(x)
        for stage in self:
            x = stage(x)
        return x

    def tokens(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, C, T]`` to tokens ``[B, N, D]``, the inputs of the pooling."""
        x = to_image(x)
        for name, stage in self.named_children():
            if name == "pool":
                break
            x = stage(x)
        return to_tokens(x)

    def local_tokens(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, C, T]`` to tokens ``[B, N, D]``. The stages are convolutions."""
        return self.tokens(x)


class ConvNormAct(nn.Sequential):
    """Convolution, norm, activation. The convolution has a bias only with ``norm="none"``, because norms have one.

    Zero padding keeps ``ceil(T / stride)`` samples, also for even kernels (with one more zero after the signal than
    before it).

    Parameters
    ----------
    in_channels, out_channels, kernel, stride
        Parameters of the convolution.
    activation
        Name, as in `einthoven.models.activations`, or None.
    norm
        Name, as in `einthoven.models.norms`.
    zero_init
        Start the scale of the norm at zero (without a norm: the weight of the convolution), so that a residual branch
        that ends here returns zeros at first (Goyal et al. 2017, section 5.1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        activation: str | None = "relu",
        norm: str = "batch",
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            self.pad = nn.ZeroPad2d((kernel // 2 - 1, kernel // 2, 0, 0))
            padding = (0, 0)
        else:
            padding = (0, kernel // 2)
        has_bias = norm == "none"
        self.conv = TimeConvolution(in_channels, out_channels, (1, kernel), (1, stride), padding, bias=has_bias)
        init_weight(self.conv, activation)
        self.norm = image_norm(norm, out_channels)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        if zero_init:
            nn.init.zeros_(self.conv.weight if norm == "none" else self.norm.get_parameter("weight"))
        if activation is not None:
            self.act = activation_layer(activation)


class DropPath(nn.Module):
    """Stochastic depth: drop a residual branch for whole records (Huang et al. 2016).

    The other branches are divided by their probability, so that the expectation is the branch itself.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`. In training, random records are set to zero."""
        if not self.training or self.p == 0.0:
            return x
        shape = (1,) * (x.ndim - 1)
        keep = draw_rows(x.shape[0], lambda rows: x.new_empty((rows, *shape)).bernoulli_(1.0 - self.p))
        return x * (keep / (1.0 - self.p))

    def extra_repr(self) -> str:
        """Show the drop probability."""
        return f"p={self.p}"


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut: the basic block of He et al. 2016, in one dimension.

    If the block halves the time axis, the shortcut averages before its 1x1 convolution, so that every sample counts (He
    et al. 2019, "Bag of tricks", ResNet-D).

    Parameters
    ----------
    in_channels, out_channels
        Channels before and after the block.
    kernel
        Width of both convolutions, in samples.
    stride
        Stride of the first convolution, 1 or 2.
    drop_path
        Probability that training skips the branch, per record.
    activation, norm
        Names, as in `einthoven.models.activations` and `einthoven.models.norms`.
    """

    expansion = 1

    branches = ("branch",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        drop_path: float = 0.0,
        *,
        activation: str = "relu",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ConvNormAct(in_channels, out_channels, kernel, stride, activation=activation, norm=norm),
            ConvNormAct(out_channels, out_channels, kernel, activation=None, norm=norm, zero_init=True),
        )
        self.shortcut = shortcut(in_channels, out_channels, stride, norm)
        self.drop_path = DropPath(drop_path)
        self.act = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, 1, T]`` to ``[B, out_channels, 1, ceil(T / stride)]``."""
        return self.act(self.shortcut(x) + self.drop_path(self.branch(x)))


class Bottleneck(nn.Module):
    """A 1x1, a wide and a 1x1 convolution, and a shortcut. The output has four times as many channels as the inside.

    He et al. 2016, figure 5, with the stride in the wide convolution and the ResNet-D shortcut of He et al. 2019.
    Options as in `ResidualBlock`.
    """

    expansion = 4
    branches = ("branch",)

    def __init__(
        self,
        in_channels: int,
        width: int,
        kernel: int,
        stride: int = 1,
        *,
        activation: str = "relu",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.branch = nn.Sequential(
            ConvNormAct(in_channels, width, 1, activation=activation, norm=norm),
            ConvNormAct(width, width, kernel, stride, activation=activation, norm=norm),
            ConvNormAct(width, out_channels, 1, activation=None, norm=norm, zero_init=True),
        )
        self.shortcut = shortcut(in_channels, out_channels, stride, norm)
        self.act = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, 1, T]`` to ``[B, 4 * width, 1, ceil(T / stride)]``."""
        return self.act(self.shortcut(x) + self.branch(x))


def shortcut(in_channels: int, out_channels: int, stride: int, norm: str = "batch") -> nn.Sequential:
    """Return the path around a residual branch.

    It has average pooling if the stride is not 1, and a 1x1 convolution if the number of channels changes. An empty
    ``nn.Sequential`` is the identity.
    """
    path = nn.Sequential()
    if stride != 1:
        path.append(nn.AvgPool2d((1, stride), ceil_mode=True))
    if in_channels != out_channels:
        path.append(ConvNormAct(in_channels, out_channels, 1, activation=None, norm=norm))
    return path


class ConcatPool(nn.Module):
    """Maximum and mean over time, concatenated (Howard and Gugger 2020, ``AdaptiveConcatPool`` of fastai)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, 1, T]`` to ``[B, 2 C]``."""
        return torch.cat([x.amax(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1)


def head(
    features: int,
    num_classes: int,
    *,
    hidden: int,
    dropouts: Sequence[float],
    activation: str = "relu",
    norm: str = "batch",
) -> nn.Sequential:
    """Build the head of the benchmark, which maps pooled features ``[B, D]`` to logits with one hidden layer.

    It has norm, dropout and a linear layer, twice (Strodthoff et al. 2021; Howard and Gugger 2020).

    Parameters
    ----------
    features, num_classes
        Number of pooled features; number of logits.
    hidden
        Features of the hidden layer.
    dropouts
        Dropout probabilities before the two linear layers.
    activation, norm
        Names, as in `einthoven.models.activations` and `einthoven.models.norms`.
    """
    if len(dropouts) != 2:
        raise UserError(
            f"model: dropouts={list(dropouts)}: expected two probabilities, one for each linear layer of the head."
        )
    return nn.Sequential(
        feature_norm(norm, features),
        nn.Dropout(dropouts[0]),
        linear(features, hidden),
        activation_layer(activation),
        feature_norm(norm, hidden),
        nn.Dropout(dropouts[1]),
        linear(hidden, num_classes),
    )


def check_samples(x: Tensor, samples: int, model: str) -> None:
    """Refuse a signal ``[B, C, T]`` whose length differs from the length that the model was built for.

    Raises
    ------
    UserError
    """
    if x.shape[2] != samples:
        raise UserError(
            f"model={model} was built for windows of {samples} samples and got {x.shape[2]}; "
            "choose windows of that length or a model that reads any length."
        )


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Build a linear layer: weights uniform in ``±sqrt(6 / (in + out))`` (Glorot, Bengio 2010), zero bias."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
