"""Contrastive losses in nats, one value per record: to find its partner among many."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(scores: Tensor) -> Tensor:
    """Cross-entropy of finding each record's partner on the diagonal: ``-s_ii + log Σ_j exp(s_ij)``.

    Parameters
    ----------
    scores : Tensor (N, N)
        Score of the i-th record with the j-th candidate, of which the i-th is its partner.

    Returns
    -------
    Tensor (N,)

    References
    ----------
    van den Oord, Li & Vinyals, "Representation learning with contrastive predictive coding", 2018, equation 4.
    """
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device), reduction="none")


def mutual_information_bound(scores: Tensor) -> Tensor:
    """Lower bound of the mutual information of partners: ``log N`` minus the mean loss, never above ``log N``.

    It is tight for large N where the scores are the log density ratio ``log p(y|x) / p(y)``.

    Parameters
    ----------
    scores : Tensor (N, N)
        As in `info_nce`.

    Returns
    -------
    Tensor ()

    References
    ----------
    van den Oord, Li & Vinyals 2018, section 2.3; Poole et al., "On variational bounds of mutual information", ICML
    2019, equation 10.
    """
    return math.log(len(scores)) - info_nce(scores).mean()


def nt_xent(a: Tensor, b: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Normalized, temperature-scaled cross-entropy of two views of each record, among all views of the batch.

    Each of the 2 N views has one partner and 2 N - 2 others; scores are cosines over the temperature.

    Parameters
    ----------
    a, b : Tensor (N, D)
        Embeddings of the first and second view of each record.
    temperature : float
        Above 0.

    Returns
    -------
    Tensor (N,)
        Mean of the two views of each record.

    References
    ----------
    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020, equation 1.
    """
    n = len(a)
    views = F.normalize(torch.cat([a, b]), dim=1)
    scores = (views @ views.T / temperature).masked_fill(torch.eye(2 * n, dtype=torch.bool, device=a.device), -math.inf)
    partner = torch.arange(2 * n, device=a.device).roll(n)
    return F.cross_entropy(scores, partner, reduction="none").view(2, n).mean(dim=0)
