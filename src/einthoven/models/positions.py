"""Positions of tokens in their sequence: the `positions` option of the networks with attention.

Attention does not depend on the order of the tokens. ``sinusoidal`` and ``learned`` positions are added to the tokens.
``rotary`` positions rotate the queries and keys inside the attention. With ``none`` the order has no effect.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from einthoven.errors import UserError

POSITIONS = ("sinusoidal", "learned", "rotary", "none")


def added_positions(name: str, dim: int, length: int) -> nn.Module:
    """Build the module that adds positions to tokens ``[B, N, D]``. It is the identity for ``rotary`` and ``none``.

    Parameters
    ----------
    name
        One of `POSITIONS`.
    dim
        Features of a token, an even number.
    length
        Number of tokens in training, which is the number of learned positions.

    Raises
    ------
    UserError
        If the name is unknown.
    """
    if name not in POSITIONS:
        raise UserError(f"model: positions={name}: expected one of {', '.join(POSITIONS)}.")
    if name == "sinusoidal":
        return SinusoidalPositions(dim)
    if name == "learned":
        return LearnedPositions(dim, length)
    return nn.Identity()


def angles(length: int, frequencies: Tensor) -> Tensor:
    """Return position times frequency, ``[length, len(frequencies)]``, in radians."""
    positions = torch.arange(length, device=frequencies.device, dtype=frequencies.dtype)
    return positions[:, None] * frequencies


def frequencies(dim: int) -> Tensor:
    """Return the angles between two tokens of the ``dim / 2`` feature pairs: ``10000^(-2i/dim)`` radians."""
    return 10000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float32) / dim)


@torch.no_grad()
def position_similarity(network: nn.Module, tokens: int) -> Tensor:
    """Return how similar the positions of tokens are for a network with attention, ``[tokens, tokens]`` from -1 to 1.

    For positions that are added, it is the cosine of the angle between two of them. For rotary positions, it is the
    scalar product of two equal features after their rotation, divided by that before it: the mean of the cosines of
    the angles between them. Without positions, all tokens are alike, and it is 1.
    """
    for module in network.modules():
        if isinstance(module, SinusoidalPositions):
            empty = torch.zeros(1, tokens, 2 * len(module.frequencies), device=module.frequencies.device)
            return _cosines(module(empty)[0])
        if isinstance(module, LearnedPositions):
            empty = torch.zeros(1, tokens, module.table.shape[1], device=module.table.device)
            return _cosines(module(empty)[0])
        if isinstance(module, RotaryPositions):
            features = torch.ones(1, 1, tokens, 2 * len(module.frequencies), device=module.frequencies.device)
            return _cosines(module(features)[0, 0])
    return torch.ones(tokens, tokens)


def _cosines(vectors: Tensor) -> Tensor:
    """Return the cosines of the angles between vectors ``[N, D]``."""
    unit = F.normalize(vectors.float(), dim=1)
    return unit @ unit.T


class SinusoidalPositions(nn.Module):
    """Add sines and cosines of the position to a sequence of tokens (Vaswani et al. 2017, section 3.5).

    The positions are fixed, so they work for sequences that are longer than in training.

    Parameters
    ----------
    dim
        Even number of features. Feature pair i has the wavelength ``2 pi 10000^(2i/dim)`` tokens.
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", frequencies(dim), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, N, D]``."""
        phases = angles(tokens.shape[1], self.frequencies)
        return tokens + torch.cat([phases.sin(), phases.cos()], dim=1).to(tokens.dtype)


class LearnedPositions(nn.Module):
    """Add a learned vector for each position (Dosovitskiy et al. 2021, section 3.1).

    If a sequence has another length than the table, the table is interpolated (as in section 3.2 of the paper for
    images of another size).
    """

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, dim))
        nn.init.normal_(self.table, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, N, D]`` to ``[B, N, D]``."""
        table: Tensor = self.table
        if tokens.shape[1] != len(table):
            table = F.interpolate(table.T[None], size=tokens.shape[1], mode="linear", align_corners=False)[0].T
        return tokens + table.to(tokens.dtype)


class RotaryPositions(nn.Module):
    """Rotate pairs of features by an angle that grows with the position (Su et al. 2021, equation 34).

    The scalar product of a rotated query and a rotated key depends only on their contents and their distance.

    Parameters
    ----------
    dim
        Even number of features of a head. Features i and i + dim/2 are a pair.
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise UserError(f"model: positions=rotary needs heads of an even number of features, found {dim}.")
        self.register_buffer("frequencies", frequencies(dim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map queries or keys ``[B, heads, N, d]`` to the same shape."""
        phases = angles(x.shape[2], self.frequencies)
        cosine = phases.cos().to(x.dtype)
        sine = phases.sin().to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
