"""The default model: convolutions for the waves, attention for their sequence.

A convolutional trunk reads waves and beats and shortens the time axis by a factor of eight. Transformer blocks then
compare the results. With 1,500 records, such a network memorizes the training records. The best measure against it is
to train on one short window of a record at a time.
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

    Trained from scratch on tens of thousands of ECGs, a pure transformer is worse than convolutions. A transformer
    behind a convolutional trunk is not (Xiao et al. 2021, "Early convolutions help transformers see better").

    The model always gets whole records. In training, it reads one random window of each record. In evaluation, the
    convolutions read the whole record once. Attention and the head then read overlapping windows of the tokens, and the
    logits of the windows are averaged. These are the crops of Strodthoff et al. 2021, inside the model. The random
    windows come from torch's global generator, as dropout does.

    Stages (direct children): ``stem``, ``conv``, ``attention``, ``pool``, ``head``.

    Parameters
    ----------
    in_channels
        Channels of the output of the frontend.
    num_classes
        Number of logits.
    window, fs
        Length of a window in seconds; sampling frequency in Hz. With None, the network reads whole records, in training
        and in evaluation.
    channels
        Channels of the stem and of each residual block. Each of them halves the time axis.
    stem_kernel, kernel
        Odd kernel widths of the stem and of the residual blocks, in samples.
    depth, heads, expansion
        Number of transformer blocks; number of attention heads; hidden features of the perceptron in a block, as a
        multiple of its inputs.
    dropout, drop_path, head_dropout
        Dropout probability in the branches of the transformer; probability of skipping a residual branch; dropout
        probability before the linear head.
    activation, norm
        Activation and norm of the convolutions, as in `einthoven.models.activations` and `einthoven.models.norms`. The
        head has the same norm.
    mlp_activation, token_norm
        Activation and norm of the transformer. The norm is one of ``layer``, ``rms`` and ``none``.
    positions
        Positions of the tokens, as in `einthoven.models.positions`.
    samples
        Length of a record in training, in samples. With ``window=None`` it decides the size of the table of learned
        positions.
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
        # Samples between two tokens, and tokens of a window
        self.stride = 2 ** len(channels)
        self.length = math.ceil(min(self.window or samples, samples) / self.stride)

        self.stem = ConvNormAct(in_channels, channels[0], stem_kernel, 2, activation=activation, norm=norm)
        self.conv = nn.Sequential()
        for before, after in pairwise(channels):
            self.conv.append(ResidualBlock(before, after, kernel, 2, drop_path, activation=activation, norm=norm))
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
        logits: Tensor = self.head(self.pool(self.attention(self._window_tokens(x))))
        return logits.view(x.shape[0], -1, logits.shape[1]).mean(dim=1)

    def tokens(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to tokens ``[B, n N, D]``: those of its n windows, one after the other.

        A signal that is not longer than `window` is one window.
        """
        tokens: Tensor = self.attention(self._window_tokens(x))
        return tokens.reshape(len(x), -1, tokens.shape[2])

    def local_tokens(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to the tokens ``[B, N, D]`` of the convolutions, before the attention.

        A token sees only the signal around it.
        """
        return to_tokens(self.conv(self.stem(to_image(x))))

    def _window_tokens(self, x: Tensor) -> Tensor:
        """Map a signal to the inputs ``[B n, N, D]`` of the transformer for its n windows, record by record."""
        tokens = self.local_tokens(x)
        windows = overlapping_windows(tokens, self._window_length(tokens.shape[1]))
        return windows.flatten(0, 1)

    def pieces(self, steps: int) -> tuple[list[int], int]:
        """Return the starts and the length of the windows of a signal with so many steps, in steps."""
        tokens = math.ceil(steps / self.stride)
        length = self._window_length(tokens)
        starts = [start * self.stride for start in window_starts(tokens, length)]
        return starts, length * self.stride

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """Return the attention weights ``[B n, heads, N, N]`` of each transformer block, for n windows per record.

        A signal that is not longer than `window` is one window. Call ``eval()`` first, as for a prediction.
        """
        return attention_maps(self.attention, self._window_tokens(x))

    def _window_length(self, tokens: int) -> int:
        """Return the length of a window in a record with so many tokens."""
        return tokens if self.window is None else min(self.length, tokens)
