"""From logits to probabilities, with a temperature.

A temperature above 1 moves the probabilities towards equality. A temperature below 1 moves them towards 0 and 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid


def sigmoid(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return one Bernoulli probability per class: ``1 / (1 + exp(-z / T))``, which is the softmax of (z, 0).

    Parameters
    ----------
    logits : Tensor (..., K)
    temperature : float
        T, above 0.
    """
    return tempered(logits, temperature).sigmoid()


def softmax(logits: Tensor, temperature: float = 1.0, dim: int = -1) -> Tensor:
    """Return one categorical distribution over `dim`: ``exp(z_k / T) / Σ_j exp(z_j / T)``.

    Parameters
    ----------
    logits : Tensor
    temperature : float
        T, above 0. Near 0, the class with the largest logit gets probability 1. Near infinity, all classes get the
        same probability.
    dim : int
        The dimension of the classes.

    References
    ----------
    Hinton, Vinyals & Dean, "Distilling the knowledge in a neural network", 2015, equation 1.
    """
    return tempered(logits, temperature).softmax(dim)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Return the logits divided by the temperature."""
    return logits if temperature == 1.0 else logits / temperature


def logits_of(p: Tensor, single_label: bool) -> Tensor:
    """Return logits whose probabilities are `p`, the inverse of `sigmoid` and `softmax`.

    Probabilities of 0 and 1 become finite logits: they are moved by the rounding error of their number format.

    Parameters
    ----------
    p : Tensor (..., K)
    single_label : bool
        Whether the K values are one categorical distribution, or one Bernoulli distribution each.
    """
    rounding = torch.finfo(p.dtype).eps
    if single_label:
        return p.clamp_min(rounding).log()
    return torch.logit(p, eps=rounding)


def share_logits(y: Tensor, single_label: bool) -> Tensor:
    """Return the logits (K,) of the share of positive records of each class, which are finite for all labels.

    Half a record is added to the positive and to the negative records: ``log((n₁ + ½) / (n₀ + ½))``. With a single
    label, half a record is added to each class: ``log((n_k + ½) / (n + K/2))``.

    Parameters
    ----------
    y : Tensor (n, K)
        Labels in [0, 1].
    single_label : bool
        Whether a row is one categorical distribution, or K Bernoulli distributions.

    References
    ----------
    Haldane, "The estimation and significance of the logarithm of a ratio of frequencies", 1955: with half a record, the
    bias of this estimate is of order 1/n².
    """
    positive = y.float().sum(dim=0)
    if single_label:
        return ((positive + 0.5) / (len(y) + 0.5 * y.shape[1])).log()
    return ((positive + 0.5) / (len(y) - positive + 0.5)).log()


def mixture_logits(logits: Tensor, single_label: bool, weights: Tensor | None = None) -> Tensor:
    """Return the logits of an ensemble, whose probabilities are the mean of the probabilities of its members.

    They are computed from logarithms, so that they are finite where probabilities would round to 0 or 1.

    Parameters
    ----------
    logits : Tensor (M, ..., K)
        Logits of the M members.
    single_label : bool
        Whether the K values are one categorical distribution, or one Bernoulli distribution each.
    weights : Tensor (M,), optional
        Weights of the members in the mean, above 0. Only their ratios count. By default they are equal.

    Returns
    -------
    Tensor (..., K)
    """
    if len(logits) == 1:
        return logits[0]
    positive = log_softmax(logits, -1) if single_label else logsigmoid(logits)
    log_weights = torch.zeros_like(logits)
    if weights is not None:
        log_weights = weights.log().to(logits).view(-1, *[1] * (logits.ndim - 1))
    if single_label:
        # Logarithms of probabilities are logits of these probabilities. The sum of the weights cancels in a softmax.
        return torch.logsumexp(positive + log_weights, dim=0)
    return torch.logsumexp(positive + log_weights, dim=0) - torch.logsumexp(logsigmoid(-logits) + log_weights, dim=0)
