"""Classification losses: negative log-likelihoods in nats, one value per record, for hard and soft labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean over the classes of the Bernoulli negative log-likelihood.

    ``-y log σ(z) - (1 - y) log(1 - σ(z))``, computed from the logits so that it is finite for any of them.

    Parameters
    ----------
    logits, y : Tensor (B, K)
        Labels in [0, 1].

    Returns
    -------
    Tensor (B,)
    """
    return F.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(dim=-1)


def softmax_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Categorical negative log-likelihood ``-Σ_k y_k log softmax(z)_k``.

    Parameters
    ----------
    logits, y : Tensor (B, K)
        Each row of `y` is a distribution over the classes (one-hot, or mixed).

    Returns
    -------
    Tensor (B,)
    """
    return -(y * F.log_softmax(logits, dim=-1)).sum(dim=-1)
