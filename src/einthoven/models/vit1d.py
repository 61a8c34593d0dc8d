"""A vision transformer in one dimension: attention between patches of the signal."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.models.attention import attention_maps, transformer
from einthoven.models.blocks import linear
from einthoven.models.norms import TOKEN_NORMS, check_norm


class PatchEmbedding(nn.Module):
    """Cut the signal into patches that do not overlap, and map each patch with one linear layer."""

    def __init__(self, in_channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.linear = linear(in_channels * patch, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, T]`` to tokens ``[B, ceil(T / patch), dim]``. Zeros fill the last patch."""
        missing_samples = -x.shape[2] % self.patch
        x = F.pad(x, (0, missing_samples))
        # [B, C, T] -> [B, C, N, patch] -> [B, N, C, patch]
        patches = x.view(*x.shape[:2], -1, self.patch).transpose(1, 2)
        return self.linear(patches.flatten(2))


class ViT1d(nn.Module):
    """A vision transformer: patches, positions, transformer blocks, the mean over time, a linear layer.

    The network of Dosovitskiy et al. 2021, with the mean of the tokens in place of a class token (their appendix D.3).
    It is worse than a convolutional network if it is trained from scratch on tens of thousands of ECGs.

    Stages (direct children): ``patches``, ``attention``, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        Channels of the signal; number of logits.
    samples
        Length of a training record, in samples. The table of learned positions has one row per patch of this length.
    patch
        Length of a patch, in samples.
    dim, depth, heads, expansion
        Features of a token; number of transformer blocks; number of attention heads; hidden features of the perceptron
        in a block, as a multiple of `dim`.
    dropout, drop_path
        Dropout probability in the branches of the transformer; probability of skipping a branch.
    positions
        Kind of positions, as in `einthoven.models.positions`.
    activation, norm
        Activation and norm of the transformer. The norm is one of ``layer``, ``rms`` and ``none``.

    Raises
    ------
    UserError
        If `dim` is not a multiple of twice the number of `heads`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        samples: int = 1000,
        patch: int = 25,
        dim: int = 128,
        depth: int = 6,
        heads: int = 4,
        expansion: int = 4,
        dropout: float = 0.1,
        drop_path: float = 0.1,
        positions: str = "learned",
        activation: str = "gelu",
        norm: str = "layer",
    ) -> None:
        super().__init__()
        if dim % (2 * heads):
            raise UserError(f"model.dim={dim}: expected a multiple of twice model.heads={heads}.")
        check_norm(norm, TOKEN_NORMS)
        self.patches = PatchEmbedding(in_channels, dim, patch)
        self.attention = transformer(
            dim,
            depth=depth,
            heads=heads,
            expansion=expansion,
            dropout=dropout,
            drop_path=drop_path,
            positions=positions,
            length=math.ceil(samples / patch),
            activation=activation,
            norm=norm,
        )
        self.head = linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to logits ``[B, num_classes]``."""
        return self.head(self.tokens(x).mean(dim=1))

    def tokens(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to tokens ``[B, N, D]``, one per patch."""
        return self.attention(self.patches(x))

    def attention_maps(self, x: Tensor) -> dict[str, Tensor]:
        """Return the attention weights ``[B, heads, N, N]`` of each transformer block, for N patches.

        Call ``eval()`` first, so that dropout is off.
        """
        return attention_maps(self.attention, self.patches(x))
