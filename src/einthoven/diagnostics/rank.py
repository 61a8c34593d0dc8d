"""Effective rank of the features before the head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from einthoven.contracts import ONE_PROCESS, Processes

ROWS = 2048  # largest number of feature vectors


def effective_rank(features: Tensor) -> float:
    """Return the effective dimension of features: ``exp H(λ / Σλ)`` with the eigenvalues λ of their covariance.

    It is 1 if all features lie on one line. It is D, the number of features, if the variance is the same in all
    directions. Roy & Vetterli 2007, "The effective rank", equation 3, applied to the covariance matrix.

    Parameters
    ----------
    features
        ``(n, D)``. n records have at most n - 1 directions.

    Returns
    -------
    float
        Not a number if the features do not vary.
    """
    centred = features.detach().cpu().double()  # sync: once per evaluation
    centred = centred - centred.mean(dim=0)
    eigenvalues = torch.linalg.svdvals(centred).square()
    shares = eigenvalues / eigenvalues.sum()
    return float(torch.exp(torch.special.entr(shares).sum()))


@contextmanager
def features(network: nn.Module, rows: int = ROWS, processes: Processes = ONE_PROCESS) -> Iterator[list[Tensor]]:
    """Collect the input of the last stage of a network in the evaluation passes inside this block.

    Yields
    ------
    list of Tensor
        The forward passes append tensors ``(n, D)``, with at most `rows` rows in total. Images ``[B, D, H, W]`` and
        tokens ``[B, N, D]`` are replaced by their mean over positions.
    """
    *_, last = network.children()
    collected: list[Tensor] = []

    def hook(stage: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        missing = rows - sum(len(part) for part in collected)
        if stage.training or missing <= 0:
            return
        x = processes.gather(inputs[0].detach())[:missing].float()
        if x.ndim == 4:
            x = x.mean(dim=(2, 3))
        elif x.ndim == 3:
            x = x.mean(dim=1)
        collected.append(x)

    handle = last.register_forward_pre_hook(hook)
    try:
        yield collected
    finally:
        handle.remove()
