"""Attention between tokens ``[B, N, D]`` (batch, tokens, features), and pooling with attention."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from einthoven.models.activations import activation_layer
from einthoven.models.blocks import DropPath, check_depth, linear
from einthoven.models.norms import TOKEN_NORMS, check_norm, feature_norm
from einthoven.models.positions import RotaryPositions, added_positions


def explicit_attention() -> AbstractContextManager[None]:
    """Return a context in which attention is computed with matrix products and a softmax.

    This is slower than the fused kernel, but it has derivatives of every order. Hessian-vector products need them, and
    the fused kernel has only first derivatives.
    """
    return sdpa_kernel(SDPBackend.MATH)


class SelfAttention(nn.Module):
    """Multi-head self-attention: ``softmax(Q K^T / sqrt(d)) V`` (Vaswani et al. 2017, equation 1).

    Parameters
    ----------
    dim, heads
        Features of a token; number of attention heads, a divisor of `dim`.
    rotary
        Whether queries and keys are rotated by their positions (`RotaryPositions`).
    """

    def __init__(self, dim: int, heads: int, *, rotary: bool = False) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide {dim} features")
        self.heads = heads
        self.qkv = linear(dim, 3 * dim)
        self.out = linear(dim, dim)
        self.rotary = RotaryPositions(dim // heads) if rotary else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, N, D]``."""
        query, key, value = self.project(tokens)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(tokens.shape))

    def weights(self, tokens: Tensor) -> Tensor:
        """Return the attention weights ``[B, heads, N, N]`` of each token (row) to each token (column).

        Every row sums to one.
        """
        query, key, _ = self.project(tokens)
        return torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, dim=-1)

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries, keys and values of tokens ``[B, N, D]``, each ``[B, heads, N, d]``."""
        batch, length, dim = tokens.shape
        qkv = self.qkv(tokens).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return self.rotary(query), self.rotary(key), value


class TransformerBlock(nn.Module):
    """Self-attention, then a two-layer perceptron on each token. Both are residual branches that begin with a norm.

    Pre-norm (Xiong et al. 2020) trains without a warm-up. GELU as in Hendrycks and Gimpel 2016.

    Parameters
    ----------
    dim, heads
        Features of a token; number of attention heads, a divisor of `dim`.
    expansion
        Hidden features of the perceptron, as a multiple of `dim`.
    dropout
        Dropout probability at the end of both branches.
    drop_path
        Probability that training skips a branch, per record.
    rotary
        Whether the attention has rotary positions.
    activation, norm
        Activation inside the perceptron; norm of both branches.
    """

    branches = ("attention", "mlp")

    def __init__(
        self,
        dim: int,
        heads: int,
        expansion: int = 2,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        *,
        rotary: bool = False,
        activation: str = "gelu",
        norm: str = "layer",
    ) -> None:
        super().__init__()
        check_norm(norm, TOKEN_NORMS)
        self.norm_attention = feature_norm(norm, dim)
        self.attention = SelfAttention(dim, heads, rotary=rotary)
        self.norm_mlp = feature_norm(norm, dim)
        self.mlp = nn.Sequential(
            linear(dim, expansion * dim), activation_layer(activation), linear(expansion * dim, dim)
        )
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, N, D]``."""
        mixed = self.attention(self.norm_attention(tokens))
        tokens = tokens + self.drop_path(self.dropout(mixed))
        features = self.mlp(self.norm_mlp(tokens))
        return tokens + self.drop_path(self.dropout(features))


def transformer(
    dim: int,
    *,
    depth: int,
    heads: int,
    expansion: int,
    dropout: float,
    drop_path: float,
    positions: str,
    length: int,
    activation: str,
    norm: str,
) -> nn.Sequential:
    """Build a transformer for tokens ``[B, N, dim]``: positions, `depth` blocks and a last norm.

    Parameters
    ----------
    depth
        Number of blocks.
    positions, length
        Kind of positions, as in `einthoven.models.positions`; number of tokens in training.
    dim, heads, expansion, dropout, drop_path, activation, norm
        Options of each block, as in `TransformerBlock`.
    """
    check_depth("depth", depth, smallest=0)
    layers: list[nn.Module] = [added_positions(positions, dim, length)]
    for _ in range(depth):
        block = TransformerBlock(
            dim,
            heads,
            expansion,
            dropout,
            drop_path,
            rotary=positions == "rotary",
            activation=activation,
            norm=norm,
        )
        layers.append(block)
    layers.append(feature_norm(norm, dim))
    return nn.Sequential(*layers)


def attention_maps(layers: Iterable[nn.Module], tokens: Tensor) -> dict[str, Tensor]:
    """Return the attention weights of tokens ``[B, N, D]`` in a stack of layers.

    Returns
    -------
    dict
        ``block1``, ``block2`` and so on, one entry per `TransformerBlock`: the weights ``[B, heads, N, N]`` of each
        token (row) to each token (column).
    """
    maps: dict[str, Tensor] = {}
    for layer in layers:
        if isinstance(layer, TransformerBlock):
            maps[f"block{len(maps) + 1}"] = layer.attention.weights(layer.norm_attention(tokens))
        tokens = layer(tokens)
    return maps


class AttentionPool(nn.Module):
    """Average of the tokens, weighted with learned queries.

    Every head has one query. Its weights over time are ``softmax(Q K^T / sqrt(d))`` as in Lee et al. 2019 ("Set
    Transformer", pooling by multi-head attention). Queries start at zero, so the pool starts as the plain mean.
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
        return F.scaled_dot_product_attention(query, key, value).reshape(batch, dim)


class AttentionMaxPool(nn.Module):
    """The attention-weighted mean and the maximum over time, concatenated.

    The mean describes what is typical. The maximum keeps what happened only once.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = AttentionPool(dim, heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, 2 D]``."""
        return torch.cat([self.attention(tokens), tokens.amax(dim=1)], dim=1)
