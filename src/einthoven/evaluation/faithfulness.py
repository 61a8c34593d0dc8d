"""What a map of relevance is worth: whether the output follows it, and whether it depends on what was learned."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.evaluation.saliency import AT_ONCE, Explained, Method, chosen

STEPS = 10  # of a curve of deletion or insertion
PATCH_S = 0.1  # s of a lead that are deleted together: about a QRS; single samples would leave spikes
DRAWS = 3  # random orders

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Faithfulness:
    """Of each record, what a method is worth (n,), all between 0 and 1 but the correlation.

    Attributes
    ----------
    deletion, insertion : ndarray
        Areas under the probability, as in `deletion_insertion`. A good map has a small deletion and a large insertion.
    random_deletion, random_insertion : ndarray
        The same with orders drawn by chance.
    sanity : ndarray
        Rank correlation of what the map marks with what it marks in the same network with its weights dealt anew: near
        1, the map does not depend on what was learned.
    """

    deletion: Float
    insertion: Float
    random_deletion: Float
    random_insertion: Float
    sanity: Float


def faithfulness(
    model: Explained, method: Method, x: Tensor, target: Tensor, relevance: Tensor, *, fs: float, seed: int = 0
) -> Faithfulness:
    """Judge what a method found.

    Parameters
    ----------
    model, method, x, target
        As in `evaluation.saliency`.
    relevance : Tensor (N, L, T)
        What the method gave.
    fs : float
        Hz.
    seed : int
        Of the random orders and of the weights dealt anew.
    """
    patch = patch_of(fs)
    areas = deletion_insertion(model, x, relevance, target, patch=patch).mean(dim=2)
    other = method(randomised(model, x, seed), x, target)
    alike = rank_correlation(relevance.abs(), other.abs())
    numbers = (*areas, *areas_by_chance(model, x, target, patch=patch, seed=seed), alike)
    return Faithfulness(*(value.double().cpu().numpy() for value in numbers))


def patch_of(fs: float) -> int:
    """Samples that are deleted together, at a sampling frequency in Hz."""
    return max(round(PATCH_S * fs), 1)


def areas_by_chance(model: Explained, x: Tensor, target: Tensor, *, patch: int, seed: int = 0) -> Tensor:
    """Areas of deletion and insertion in random orders, the mean over `DRAWS` of them: (2, N)."""
    generator = torch.Generator().manual_seed(seed)
    orders = (torch.rand(x.shape, generator=generator).to(x.device) for _ in range(DRAWS))
    areas = [deletion_insertion(model, x, order, target, patch=patch).mean(dim=2) for order in orders]
    return torch.stack(areas).mean(dim=0)


@torch.no_grad()
def deletion_insertion(
    model: Explained, x: Tensor, relevance: Tensor, target: Tensor, *, patch: int, steps: int = STEPS
) -> Tensor:
    """Probability of the class while the record is taken away, and while it comes, the most relevant first.

    What is taken away is at 0 mV: patches of `patch` samples of one lead, ordered by their mean relevance. The mean of
    a curve is the area under it (Petsiuk, Das & Saenko, "RISE: randomized input sampling for explanation of black-box
    models", 2018, section 4.2); each point stands for the middle of an equal part of the way.

    Parameters
    ----------
    model : Explained
        Its outputs are log-odds.
    x, relevance : Tensor (N, L, T)
    target : Tensor of int64 (N,)
    patch : int
        Samples.
    steps : int
        Points of a curve.

    Returns
    -------
    Tensor (2, N, steps)
        Deletion, insertion.
    """
    coarse = F.avg_pool1d(relevance, patch, ceil_mode=True)
    rank = coarse.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(coarse.shape)
    rank = rank.repeat_interleave(patch, dim=2)[..., : x.shape[2]]
    shares = (torch.arange(steps, device=x.device) + 0.5) / steps * coarse[0].numel()
    curves = []
    for part in torch.split(shares, max(AT_ONCE // (2 * len(x)), 1)):
        gone = rank < part.view(-1, 1, 1, 1)
        cut = torch.stack([x * ~gone, x * gone])  # (2, part, N, L, T)
        outputs = model(cut.flatten(0, 2))
        curves.append(chosen(outputs, target.repeat(2 * len(part))).sigmoid().view(2, len(part), len(x)))
    return torch.cat(curves, dim=1).transpose(1, 2)


@torch.no_grad()
def randomised(model: Explained, x: Tensor, seed: int = 0) -> Explained:
    """A copy of a model whose network has the numbers of each weight dealt anew, and its norms adapted to the records.

    Adebayo et al., "Sanity checks for saliency maps", 2018, section 3, draw them anew from where they started; dealt
    anew, they keep their size, which a start does not have.

    Parameters
    ----------
    x : Tensor (N, L, T)
        Records at which batch norms measure their statistics again.
    """
    other = deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for parameter in other.network.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
    norms = [m for m in other.network.modules() if isinstance(m, nn.BatchNorm2d)]  # over time: one record is enough
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over what it sees
        norm.train()
    other(x)
    for norm in norms:
        norm.eval()
    return other


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of each record ``(N, …)``, ties with their mean rank: (N,); NaN where one is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(value.flatten(1).double().cpu().numpy(), axis=1) for value in (a, b)]
    u, v = (torch.from_numpy(rank - rank.mean(axis=1, keepdims=True)) for rank in ranks)
    return (u * v).sum(dim=1) / (u.square().sum(dim=1) * v.square().sum(dim=1)).sqrt()
