"""The default model: convolutions for the waves, attention for how they follow each other.

A convolutional trunk reads waves and beats and shortens the time axis eightfold; transformer blocks then
compare what it found. From 1,500 records such a network learns the records by heart unless it is kept from
it, and what keeps it best is to show it one short window of a record at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.models.attention import AttentionMaxPool, attention_maps, transformer
from einthoven.models.blocks import (
    ConvNormAct,
    ResidualBlock,
    linear,
    overlapping_windows,
    random_window,
    to_image,
    to_tokens,
    window_starts,
)
from einthoven.models.norms import TOKEN_NORMS, check_norm, feature_norm


class ConvAttention(nn.Module):
    """Residual convolutions, transformer blocks, attention and maximum pooling, a linear head.

    Pure transformers lose to convolutions when trained from scratch on tens of thousands of ECGs; behind a
    convolutional trunk (Xiao et al. 2021, "Early convolutions help transformers see better") they do not.

    A training step reads one random window of each record. In evaluation the convolutions read the whole record
    once, attention and the head read windows of their tokens that overlap by half or more and cover it, and the
    logits are averaged (the crops of Strodthoff et al. 2021, inside the model: it takes whole records either
    way). The random windows come from torch's global generator, as dropout does.

    Stages (direct children): ``stem``, ``conv``, ``attention``, ``pool``, ``head``.

    Parameters
    ----------
    in_channels
        Channels that the frontend hands over.
    num_classes
        Logits.
    window, fs
        Seconds of a window, at a sampling frequency in Hz; None reads records as a whole, in training as in
        evaluation.
    channels
        Channels of the stem and of each residual block; every one of them halves the time axis.
    stem_kernel, kernel
        Odd kernel widths of the stem and of the residual blocks, in samples.
    depth, heads, expansion
        Transformer blocks, attention heads, and hidden features of a block's perceptron over its inputs.
    dropout, drop_path, head_dropout
        Probabilities on the transformer's branches, of skipping a residual branch, and before the linear
        head.
    activation, norm
        Of the convolutions, as in `einthoven.models.activations` and `einthoven.models.norms`; the norm of the head,
        too.
    mlp_activation, token_norm
        Of the transformer; the norm is one of ``layer``, ``rms`` and ``none``.
    positions
        Of the tokens, as in `einthoven.models.positions`.
    samples
        Length of a record in training, in samples: where records are read as a whole, it is that of the table of
        learned positions.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        window: float | None = 2.5,
        fs: float = 100.0,
        channels: Sequence[int] = (64, 128, 128),
        stem_kernel: int = 7,
        kernel: int = 5,
        depth: int = 1,
        heads: int = 4,
        expansion: int = 2,
        dropout: float = 0.1,
        drop_path: float = 0.1,
        head_dropout: float = 0.5,
        activation: str = "relu",
        norm: str = "batch",
        mlp_activation: str = "gelu",
        token_norm: str = "layer",
        positions: str = "sinusoidal",
        samples: int = 1000,
    ) -> None:
        super().__init__()
        if not channels or channels[-1] % (2 * heads):
            raise UserError(
                f"model.channels={list(channels)}: the last must be a multiple of twice model.heads={heads}."
            )
        if depth < 0:
            raise UserError(f"model.depth={depth}: expected a number of blocks, 0 or more.")
        if kernel % 2 == 0 or stem_kernel % 2 == 0:
            raise UserError(f"model.kernel={kernel}, model.stem_kernel={stem_kernel}: expected odd numbers of samples.")
        self.window = None if window is None else round(window * fs)
        check_norm(token_norm, TOKEN_NORMS, "token_norm")
        dim = channels[-1]
        self.stride = 2 ** len(channels)  # steps of the signal between tokens
        self.length = math.ceil(min(self.window or samples, samples) / self.stride)
        self.stem = ConvNormAct(in_channels, channels[0], stem_kernel, 2, activation=activation, norm=norm)
        self.conv = nn.Sequential(
            *(
                ResidualBlock(before, after, kernel, 2, drop_path, activation=activation, norm=norm)
                for before, after in pairwise(channels)
            )
        )
        self.attention = transformer(
            dim,
            depth=depth,
            heads=heads,
            expansion=expansion,
            dropout=dropout,
            drop_path=drop_path,
            positions=positions,
            length=self.length,
            activation=mlp_activation,
            norm=token_norm,
        )
        self.pool = AttentionMaxPool(dim, heads)
        self.head = nn.Sequential(feature_norm(norm, 2 * dim), nn.Dropout(head_dropout), linear(2 * dim, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to logits ``[B, num_classes]``."""
        if self.training and self.window is not None and self.window < x.shape[2]:
            x = random_window(x, self.window)
        logits: Tensor = self.head(self.pool(self.attention(self.tokens(x))))
        return logits.view(x.shape[0], -1, logits.shape[1]).mean(dim=1)

    def tokens(self, x: Tensor) -> Tensor:
        """Map a signal to the tokens that attention reads, ``[B n, N, D]``: those of n windows, record by record."""
        tokens = to_tokens(self.conv(self.stem(to_image(x))))
        return overlapping_windows(tokens, self._window_of(tokens.shape[1])).flatten(0, 1)

    def pieces(self, steps: int) -> tuple[list[int], int]:
        """Where the windows of a signal of so many steps begin, and how long they are, in steps."""
        tokens = math.ceil(steps / self.stride)
        length = self._window_of(tokens)
        return [start * self.stride for start in window_starts(tokens, length)], length * self.stride

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """Attention weights of every transformer block, ``[B n, heads, N, N]``, of the n windows of each record.

        A signal no longer than `window` is one. Call ``eval()`` first, as for a prediction.
        """
        return attention_maps(self.attention, self.tokens(x))

    def _window_of(self, tokens: int) -> int:
        return tokens if self.window is None else min(self.length, tokens)
