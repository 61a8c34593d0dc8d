"""Attention between tokens ``[B, N, D]`` (batch, tokens, features), and pooling by attention."""

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
    """Compute attention, inside a ``with`` block, from matrix products and a softmax of their own.

    Slower than the fused kernel, and with derivatives of every order, which the fused one does not have: Hessian-vector
    products need it.
    """
    return sdpa_kernel(SDPBackend.MATH)


class SelfAttention(nn.Module):
    """Multi-head self-attention: ``softmax(Q K^T / sqrt(d)) V`` (Vaswani et al. 2017, equation 1).

    Parameters
    ----------
    dim, heads
        Features of a token; attention heads, a divisor of `dim`.
    rotary
        Turn queries and keys by their positions (`RotaryPositions`).
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
        merged: Tensor = self.out(mixed.transpose(1, 2).reshape(tokens.shape))
        return merged

    def weights(self, tokens: Tensor) -> Tensor:
        """Attention of each token (row) to each token (column), ``[B, heads, N, N]``; every row sums to one."""
        query, key, _ = self.project(tokens)
        return torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, dim=-1)

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens ``[B, N, D]``, each ``[B, heads, N, d]``."""
        batch, length, dim = tokens.shape
        qkv = self.qkv(tokens).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return self.rotary(query), self.rotary(key), value


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
    rotary
        Rotary positions in the attention.
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
        tokens = tokens + self.drop_path(self.dropout(self.attention(self.norm_attention(tokens))))
        out: Tensor = tokens + self.drop_path(self.dropout(self.mlp(self.norm_mlp(tokens))))
        return out


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
    """Positions, `depth` blocks and a last norm, for tokens ``[B, N, dim]``.

    Parameters
    ----------
    positions, length
        As in `einthoven.models.positions`; tokens of a sequence in training.
    dim, depth, heads, expansion, dropout, drop_path, activation, norm
        Blocks, and the options of each, as in `TransformerBlock`.
    """
    check_depth("depth", depth, smallest=0)
    blocks = (
        TransformerBlock(
            dim,
            heads,
            expansion,
            dropout,
            drop_path,
            rotary=positions == "rotary",
            activation=activation,
            norm=norm,
        )
        for _ in range(depth)
    )
    return nn.Sequential(added_positions(positions, dim, length), *blocks, feature_norm(norm, dim))


def attention_maps(layers: Iterable[nn.Module], tokens: Tensor) -> dict[str, Tensor]:
    """Attention weights in a stack of layers that `tokens` ``[B, N, D]`` pass through.

    Returns
    -------
    dict
        ``block1``, ``block2`` and so on, one for each `TransformerBlock`: ``[B, heads, N, N]``, the weights with which
        a token (row) reads the others (columns).
    """
    maps: dict[str, Tensor] = {}
    for layer in layers:
        if isinstance(layer, TransformerBlock):
            maps[f"block{len(maps) + 1}"] = layer.attention.weights(layer.norm_attention(tokens))
        tokens = layer(tokens)
    return maps


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


class AttentionMaxPool(nn.Module):
    """The attention-weighted mean beside the maximum over time: what is typical, and what happened once."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = AttentionPool(dim, heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, 2 D]``."""
        return torch.cat([self.attention(tokens), tokens.amax(dim=1)], dim=1)
