"""The decoder of the pretraining on the exact truth of the generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from einthoven.models.blocks import linear
from einthoven.models.pretraining import TokenDecoder


class TruthDecoder(nn.Module):
    """Conditions and traces from tokens.

    The conditions of a window are read from the mean and the maximum over its tokens. The traces run along the signal,
    and each token becomes the samples at its place.

    Parameters
    ----------
    dim, tokens
        Features of a token; number of tokens of a window.
    conditions, traces
        Number of conditions and of traces.
    samples
        Length of a window.
    hidden
        Hidden features.
    """

    def __init__(self, dim: int, tokens: int, conditions: int, traces: int, samples: int, hidden: int) -> None:
        super().__init__()
        self.conditions = nn.Sequential(nn.LayerNorm(2 * dim), linear(2 * dim, conditions))
        self.traces = TokenDecoder(dim, tokens, traces, samples, hidden)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens ``[B, N, D]`` to logits of conditions ``[B, K]`` and traces ``[B, C, samples]``."""
        pooled = torch.cat([tokens.mean(dim=1), tokens.amax(dim=1)], dim=1)
        return self.conditions(pooled), self.traces(tokens)
