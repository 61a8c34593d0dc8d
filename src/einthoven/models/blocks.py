"""Building blocks shared by the architectures: convolution, attention, pooling.

A signal ``[B, C, T]`` (batch, channels, time) passes through the convolutions as an image of height one,
``[B, C, 1, T]``, channels last in memory: the convolutions of CPUs and GPUs are fastest in that layout (on a
CPU a training step takes two thirds of the time). A sequence of tokens is ``[B, N, D]`` (batch, tokens,
features).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def random_window(x: Tensor, length: int) -> Tensor:
    """Cut ``[B, C, T]`` to ``[B, C, length]``, each record at its own place, drawn from torch's generator."""
    start = torch.randint(0, x.shape[2] - length + 1, (x.shape[0], 1, 1), device=x.device)
    samples = start + torch.arange(length, device=x.device)
    return x.gather(2, samples.expand(-1, x.shape[1], -1))


def overlapping_windows(x: Tensor, length: int) -> Tensor:
    """Cut ``[B, C, T]`` into ``[B, n, C, length]``: the fewest even steps of at most half a window.

    The first window starts with the record and the last ends with it. 1,000 samples make 7 windows of 250.
    """
    room = x.shape[2] - length
    steps = math.ceil(2 * room / length)
    starts = [room * i // max(steps, 1) for i in range(steps + 1)]
    return torch.stack([x[:, :, start : start + length] for start in starts], dim=1)


def to_image(signal: Tensor) -> Tensor:
    """Map ``[B, C, T]`` to an image of height one, ``[B, C, 1, T]``, channels last in memory."""
    return signal.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def to_tokens(image: Tensor) -> Tensor:
    """Map an image of height one ``[B, C, 1, T]`` to tokens ``[B, T, C]``."""
    return image.squeeze(2).transpose(1, 2)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, and ReLU unless ``act=False``.

    Zero padding keeps ``ceil(T / stride)`` samples for an odd kernel. ``zero_init`` starts the norm's scale
    at zero, so that a residual branch that ends here is silent at first (Goyal et al. 2017, section 5.1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        act: bool = True,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, (1, kernel), (1, stride), (0, kernel // 2), bias=False
        )  # He et al. 2015: the variance of the activations is kept through convolution and ReLU.
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu" if act else "linear")
        self.norm = nn.BatchNorm2d(out_channels)
        if zero_init:
            nn.init.zeros_(self.norm.weight)
        if act:
            self.act = nn.ReLU(inplace=True)


class DropPath(nn.Module):
    """Stochastic depth: drop a residual branch for whole records (Huang et al. 2016).

    The kept branches are divided by the keep probability, so that the expectation is the branch itself.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with records set to zero at random while training."""
        if not self.training or self.p == 0.0:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1.0 - self.p)
        return x * (keep / (1.0 - self.p))

    def extra_repr(self) -> str:
        """Show the drop probability."""
        return f"p={self.p}"


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut: the basic block of He et al. 2016, in one dimension.

    Where the block halves the time axis, the shortcut averages before its 1x1 convolution, so that no sample
    is thrown away (He et al. 2019, "Bag of tricks", ResNet-D).

    Parameters
    ----------
    in_channels, out_channels
        Channels before and after.
    kernel
        Odd width of both convolutions, in samples.
    stride
        1 or 2, in the first convolution.
    drop_path
        Probability with which training skips the branch, for each record.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ConvNormAct(in_channels, out_channels, kernel, stride),
            ConvNormAct(out_channels, out_channels, kernel, act=False, zero_init=True),
        )
        self.shortcut = shortcut(in_channels, out_channels, stride)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, 1, T]`` to ``[B, out_channels, 1, ceil(T / stride)]``."""
        return F.relu(self.shortcut(x) + self.drop_path(self.branch(x)))


class Bottleneck(nn.Module):
    """1x1, wide, 1x1 convolutions beside a shortcut, four times as many channels out as inside.

    He et al. 2016, figure 5, with the stride in the wide convolution and the ResNet-D shortcut of He et al.
    2019.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.branch = nn.Sequential(
            ConvNormAct(in_channels, width, 1),
            ConvNormAct(width, width, kernel, stride),
            ConvNormAct(width, out_channels, 1, act=False, zero_init=True),
        )
        self.shortcut = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, 1, T]`` to ``[B, 4 * width, 1, ceil(T / stride)]``."""
        return F.relu(self.shortcut(x) + self.branch(x))


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return the path around a residual branch: pooling where it strides, 1x1 convolution for new channels.

    An empty ``nn.Sequential`` is the identity.
    """
    path = nn.Sequential()
    if stride != 1:
        path.append(nn.AvgPool2d((1, stride), ceil_mode=True))
    if in_channels != out_channels:
        path.append(ConvNormAct(in_channels, out_channels, 1, act=False))
    return path


class SinusoidalPositions(nn.Module):
    """Add sines and cosines of the position to a sequence of tokens (Vaswani et al. 2017, section 3.5).

    Fixed, so it holds for sequences longer than those of the training.

    Parameters
    ----------
    dim
        Even number of features; feature pair i has the wavelength ``2 pi 10000^(2i/dim)`` tokens.
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        exponents = torch.arange(0, dim, 2, dtype=torch.float32) / dim
        self.register_buffer("frequencies", 10000.0**-exponents, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, N, D]``."""
        steps = torch.arange(tokens.shape[1], device=tokens.device, dtype=self.frequencies.dtype)
        angles = steps[:, None] * self.frequencies
        return tokens + torch.cat([angles.sin(), angles.cos()], dim=1).to(tokens.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention: ``softmax(Q K^T / sqrt(d)) V`` (Vaswani et al. 2017, equation 1)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide {dim} features")
        self.heads = heads
        self.qkv = linear(dim, 3 * dim)
        self.out = linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, N, D]``."""
        batch, length, dim = tokens.shape
        qkv = self.qkv(tokens).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, N, d]
        mixed = F.scaled_dot_product_attention(query, key, value)
        merged: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return merged


class TransformerBlock(nn.Module):
    """Self-attention, then a two-layer perceptron on each token, both normalised first and added back.

    Pre-norm (Xiong et al. 2020) trains without a warm-up; GELU as in Hendrycks and Gimpel 2016.

    Parameters
    ----------
    dim, heads
        Features of a token; attention heads, a divisor of ``dim``.
    expansion
        Hidden features of the perceptron over ``dim``.
    dropout
        Probability on the two branch outputs.
    drop_path
        Probability with which training skips a branch, for each record.
    """

    def __init__(self, dim: int, heads: int, expansion: int = 2, dropout: float = 0.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(linear(dim, expansion * dim), nn.GELU(), linear(expansion * dim, dim))
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, N, D]``."""
        tokens = tokens + self.drop_path(self.dropout(self.attention(self.norm_attention(tokens))))
        out: Tensor = tokens + self.drop_path(self.dropout(self.mlp(self.norm_mlp(tokens))))
        return out


class AttentionPool(nn.Module):
    """Average of the tokens, weighted by learned queries: one summary a head.

    Every head has one query; its weights over time are ``softmax(Q K^T / sqrt(d))`` as in Lee et al. 2019
    ("Set Transformer", pooling by multi-head attention). Queries start at zero: the pool starts as the plain
    mean.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide {dim} features")
        self.query = nn.Parameter(torch.zeros(heads, 1, dim // heads))
        self.key = linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, D]``."""
        batch, length, dim = tokens.shape
        heads = self.query.shape[0]
        key = self.key(tokens).view(batch, length, heads, dim // heads).transpose(1, 2)
        value = tokens.view(batch, length, heads, dim // heads).transpose(1, 2)
        query = self.query.to(tokens.dtype).expand(batch, -1, -1, -1)
        pooled: Tensor = F.scaled_dot_product_attention(query, key, value).reshape(batch, dim)
        return pooled


class ConcatPool(nn.Module):
    """Maximum and mean over time, side by side (Howard and Gugger 2020, fastai's ``AdaptiveConcatPool``)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, 1, T]`` to ``[B, 2 C]``."""
        return torch.cat([x.amax(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1)


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Build a linear layer: weights uniform in ``±sqrt(6 / (in + out))`` (Glorot, Bengio 2010), zero bias."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
