"""Measures of embeddings: whether they differ between records, and agree between views of one record."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STILL = 0.01
"""A dimension has collapsed if its standard deviation is below this share of the root mean square of the embeddings."""

SMALLEST_KL = 0.01
"""A latent dimension is active from this divergence on, in nats."""


def alignment(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared distance of the embeddings of two views of a record, on the unit sphere.

    It is 0 if both views have the same direction, and at most 4.

    Parameters
    ----------
    a, b : Tensor (n, D)
        Embeddings of the first and of the second view of each record.

    References
    ----------
    Wang & Isola, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", ICML 2020, equation 1 with α = 2.
    """
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(dim=1).mean()


def uniformity(embeddings: Tensor) -> Tensor:
    """Return how evenly embeddings (n, D) lie on the unit sphere: ``log mean exp(-2 ‖u - v‖²)`` over pairs of records.

    It is 0 if all have the same direction. It falls towards -4 as they spread over a sphere of many dimensions.

    References
    ----------
    Wang & Isola 2020, equation 2 with t = 2.
    """
    distances = torch.pdist(F.normalize(embeddings, dim=1)).square()
    return torch.logsumexp(-2 * distances, dim=0) - torch.tensor(float(len(distances))).log()


def collapsed_share(embeddings: Tensor) -> Tensor:
    """Return the share of the dimensions of embeddings (n, D) that hardly differ between records.

    Their standard deviation is below `STILL` times the root mean square of all values.
    """
    size = embeddings.square().mean().sqrt()
    is_still = embeddings.std(dim=0, correction=0) <= STILL * size
    return is_still.float().mean()


def active_share(divergences: Tensor) -> Tensor:
    """Return the share of latent dimensions with a mean divergence (D,) from the prior of `SMALLEST_KL` or more."""
    return (divergences >= SMALLEST_KL).float().mean()
