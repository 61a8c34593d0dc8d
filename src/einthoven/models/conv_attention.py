"""The default model: convolutions for the beat, attention for the rhythm.

A convolutional trunk reads waves and beats and shortens the time axis sixteenfold; transformer blocks then
compare the beats of the whole window, whose number is small enough for attention to be cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from einthoven.models.blocks import (
    AttentionPool,
    ConvNormAct,
    ResidualBlock,
    SinusoidalPositions,
    TransformerBlock,
    linear,
    to_image,
    to_tokens,
)


class ConvAttention(nn.Module):
    """Residual convolutions, transformer blocks, attention pooling, a linear head.

    Pure transformers lose to convolutions when trained from scratch on tens of thousands of ECGs; with a
    convolutional trunk in front (Xiao et al. 2021, "Early convolutions help transformers see better") they
    do not.

    Stages (direct children): ``stem``, ``conv``, ``attention``, ``pool``, ``head``.

    Parameters
    ----------
    in_channels
        Channels that the frontend hands over.
    num_classes
        Logits.
    channels
        Channels of the stem and of each residual block; every one of them halves the time axis.
    stem_kernel, kernel
        Odd kernel widths of the stem and of the residual blocks, in samples.
    depth, heads, expansion
        Transformer blocks, attention heads, and hidden features of a block's perceptron over its inputs.
    dropout, drop_path, head_dropout
        Probabilities on the transformer's branches, of skipping a residual branch, and before the linear
        head.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        channels: Sequence[int] = (32, 64, 128, 128),
        stem_kernel: int = 15,
        kernel: int = 7,
        depth: int = 1,
        heads: int = 4,
        expansion: int = 2,
        dropout: float = 0.1,
        drop_path: float = 0.1,
        head_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        dim = channels[-1]
        self.stem = ConvNormAct(in_channels, channels[0], stem_kernel, stride=2)
        self.conv = nn.Sequential(
            *(
                ResidualBlock(before, after, kernel, stride=2, drop_path=drop_path)
                for before, after in pairwise(channels)
            )
        )
        self.attention = nn.Sequential(
            SinusoidalPositions(dim),
            *(TransformerBlock(dim, heads, expansion, dropout, drop_path) for _ in range(depth)),
            nn.LayerNorm(dim),
        )
        self.pool = AttentionMaxPool(dim, heads)
        self.head = nn.Sequential(nn.BatchNorm1d(2 * dim), nn.Dropout(head_dropout), linear(2 * dim, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to logits ``[B, num_classes]``."""
        tokens = to_tokens(self.conv(self.stem(to_image(x))))
        logits: Tensor = self.head(self.pool(self.attention(tokens)))
        return logits


class AttentionMaxPool(nn.Module):
    """The attention-weighted mean beside the maximum over time: what is typical, and what happened once."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = AttentionPool(dim, heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, 2 D]``."""
        return torch.cat([self.attention(tokens), tokens.amax(dim=1)], dim=1)
