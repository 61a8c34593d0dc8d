"""Quality of saliency maps: whether the output follows the map, and whether the map depends on the trained weights."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.evaluation.saliency import BATCH_SIZE, ExplainableModel, Method, select_output

STEPS = 10
"""Number of points of a curve of deletion or insertion."""

PATCH_S = 0.1
"""Seconds of a lead that are deleted together, about the length of a QRS. Single samples would leave spikes."""

DRAWS = 3
"""Number of random orders."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Faithfulness:
    """Quality of the map of each record (n,). All values but the correlation are from 0 to 1.

    Attributes
    ----------
    deletion, insertion : ndarray
        Areas under the curves of the probability, as in `deletion_insertion`. A good map has a small deletion and a
        large insertion.
    random_deletion, random_insertion : ndarray
        The same areas with random orders.
    sanity : ndarray
        Rank correlation between the map and the map of the same network with permuted weights. Near 1, the map does not
        depend on the trained weights.
    """

    deletion: Float
    insertion: Float
    random_deletion: Float
    random_insertion: Float
    sanity: Float


def faithfulness(
    model: ExplainableModel, method: Method, x: Tensor, target: Tensor, relevance: Tensor, *, fs: float, seed: int = 0
) -> Faithfulness:
    """Measure the quality of the maps of a method.

    Parameters
    ----------
    model, method, x, target
        As in `evaluation.saliency`.
    relevance : Tensor (N, L, T)
        The maps of the method.
    fs : float
        Sampling frequency in Hz.
    seed : int
        Seed of the random orders and of the permuted weights.
    """
    patch = patch_length(fs)
    areas = deletion_insertion(model, x, relevance, target, patch=patch).mean(dim=2)
    permuted_relevance = method(permute_weights(model, x, seed), x, target)
    correlation = rank_correlation(relevance.abs(), permuted_relevance.abs())
    random = random_areas(model, x, target, patch=patch, seed=seed)

    # The arrays are needed on the CPU, so this waits for the device.
    values = (*areas, *random, correlation)
    return Faithfulness(*(value.double().cpu().numpy() for value in values))


def patch_length(fs: float) -> int:
    """Return the number of samples that are deleted together, at a sampling frequency in Hz."""
    return max(round(PATCH_S * fs), 1)


def random_areas(model: ExplainableModel, x: Tensor, target: Tensor, *, patch: int, seed: int = 0) -> Tensor:
    """Compute the areas of deletion and insertion (2, N) with random orders, as the mean over `DRAWS` orders."""
    generator = torch.Generator().manual_seed(seed)
    areas = []
    for _ in range(DRAWS):
        relevance = torch.rand(x.shape, generator=generator).to(x.device)
        areas.append(deletion_insertion(model, x, relevance, target, patch=patch).mean(dim=2))
    return torch.stack(areas).mean(dim=0)


@torch.no_grad()
def deletion_insertion(
    model: ExplainableModel, x: Tensor, relevance: Tensor, target: Tensor, *, patch: int, steps: int = STEPS
) -> Tensor:
    """Compute the probability of the class while the record is deleted or inserted, the most relevant patches first.

    A patch has `patch` samples of one lead. The patches are sorted by their mean relevance. Deleted patches are set to
    0 mV. The mean of a curve is the area under it (Petsiuk, Das & Saenko, "RISE: randomized input sampling for
    explanation of black-box models", 2018, section 4.2). Each point of the curve is the middle of one of `steps` equal
    parts.

    Parameters
    ----------
    model : ExplainableModel
        Its outputs are log-odds.
    x, relevance : Tensor (N, L, T)
        Records in mV, and their maps.
    target : Tensor of int64 (N,)
        The class of each record that is explained.
    patch : int
        Length of a patch in samples.
    steps : int
        Number of points of a curve.

    Returns
    -------
    Tensor (2, N, steps)
        Deletion and insertion.
    """
    # The rank of each sample is the rank of its patch.
    patch_relevance = F.avg_pool1d(relevance, patch, ceil_mode=True)
    order = patch_relevance.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).view(patch_relevance.shape)
    rank = rank.repeat_interleave(patch, dim=2)[..., : x.shape[2]]

    num_deleted = (torch.arange(steps, device=x.device) + 0.5) / steps * patch_relevance[0].numel()
    curves = []
    for batch in torch.split(num_deleted, max(BATCH_SIZE // (2 * len(x)), 1)):
        is_deleted = rank < batch.view(-1, 1, 1, 1)
        # Shape (2, batch, N, L, T).
        changed = torch.stack([x * ~is_deleted, x * is_deleted])
        outputs = model(changed.flatten(0, 2))
        probability = select_output(outputs, target.repeat(2 * len(batch))).sigmoid()
        curves.append(probability.view(2, len(batch), len(x)))
    return torch.cat(curves, dim=1).transpose(1, 2)


@torch.no_grad()
def permute_weights(model: ExplainableModel, x: Tensor, seed: int = 0) -> ExplainableModel:
    """Return a copy of the model with the values inside of each weight tensor of its network permuted.

    The batch norms of the copy are adapted to the records. Adebayo et al., "Sanity checks for saliency maps", 2018,
    section 3, draw new initial weights instead. Permuted weights keep their size. Initial weights have another size
    than trained weights.

    Parameters
    ----------
    x : Tensor (N, L, T)
        Records for the new statistics of the batch norms.
    """
    copy = deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for parameter in copy.network.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))

    # Norms over time have many values per record, so a single record is sufficient for their statistics. Without
    # momentum, the running statistics are the mean over all batches.
    norms = [module for module in copy.network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    copy(x)
    for norm in norms:
        norm.eval()
    return copy


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's correlation (N,) of each pair of records ``(N, …)``. Ties have their mean rank.

    The correlation is NaN if one of the two records is constant.
    """
    from scipy.stats import rankdata

    # SciPy runs on the CPU, so this waits for the device.
    ranks_a = rankdata(a.flatten(1).double().cpu().numpy(), axis=1)
    ranks_b = rankdata(b.flatten(1).double().cpu().numpy(), axis=1)
    u = torch.from_numpy(ranks_a - ranks_a.mean(axis=1, keepdims=True))
    v = torch.from_numpy(ranks_b - ranks_b.mean(axis=1, keepdims=True))
    return (u * v).sum(dim=1) / (u.square().sum(dim=1) * v.square().sum(dim=1)).sqrt()
