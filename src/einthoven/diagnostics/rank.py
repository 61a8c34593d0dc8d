"""How many directions the features before the head use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ROWS = 2048  # feature vectors that are looked at


def effective_rank(features: Tensor) -> float:
    """Effective dimension of features: ``exp H(λ / Σλ)`` with the eigenvalues λ of their covariance.

    Between 1, all features on one line, and the number of features, the same variance in all directions. Roy &
    Vetterli 2007, "The effective rank", equation 3, of the covariance matrix.

    Parameters
    ----------
    features
        ``(n, D)``; of n records, no more than n - 1 directions are seen.

    Returns
    -------
    float
        Not a number if the features do not vary.
    """
    centred = features.detach().cpu().double()  # sync: once per evaluation
    centred = centred - centred.mean(dim=0)
    eigenvalues = torch.linalg.svdvals(centred).square()
    return float(torch.exp(torch.special.entr(eigenvalues / eigenvalues.sum()).sum()))


@contextmanager
def features(network: nn.Module, rows: int = ROWS) -> Iterator[list[Tensor]]:
    """See what enters the last stage of a network, in the forward passes of evaluations inside this block.

    Yields
    ------
    list of Tensor
        It fills with ``(n, D)``, up to `rows` rows in all; of images and tokens, ``[B, D, H, W]`` and ``[B, N, D]``,
        the mean over positions.
    """
    *_, last = network.children()
    seen: list[Tensor] = []

    def note(stage: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not stage.training and (room := rows - sum(map(len, seen))) > 0:
            x = inputs[0].detach()[:room].float()
            seen.append(x.mean(dim=(2, 3)) if x.ndim == 4 else x.mean(dim=1) if x.ndim == 3 else x)

    handle = last.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()
