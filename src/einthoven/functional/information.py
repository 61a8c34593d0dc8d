"""Entropy, Kullback-Leibler divergence and cross-entropy, in nats.

Bernoulli functions work elementwise and keep the shape. Categorical ones sum over `dim`. `entropy` and `kl` give one
value per record, with the reduction that the losses have: of several labels the mean over the classes.

Where a distribution is the model's it may be given as logits (``logits=True``), which stays exact where probabilities
have long rounded to 0 or 1; of two distributions that is the second, the first being the reference. For both families
``cross_entropy(p, q) = entropy(p) + kl(p, q)``. Cover & Thomas, "Elements of Information Theory", chapter 2;
``0 log 0 = 0`` there and here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid


def bernoulli_entropy(p: Tensor, *, logits: bool = False) -> Tensor:
    """Entropy of Bernoulli distributions, elementwise, within 0 and log 2.

    Parameters
    ----------
    p
        Probabilities, or logits.
    logits
        Whether `p` holds logits.
    """
    if logits:
        return torch.neg(torch.sigmoid(p) * logsigmoid(p) + torch.sigmoid(-p) * logsigmoid(-p))
    return torch.add(torch.special.entr(p), torch.special.entr(1 - p))


def categorical_entropy(p: Tensor, *, logits: bool = False, dim: int = -1) -> Tensor:
    """Entropy of categorical distributions over `dim`, within 0 and log K.

    Parameters
    ----------
    p
        Probabilities that sum to 1 over `dim`, or logits.
    logits
        Whether `p` holds logits.
    dim
        The classes; reduced.
    """
    if logits:
        log_p = log_softmax(p, dim)
        return torch.neg(log_p.exp() * log_p).sum(dim)
    return torch.sum(torch.special.entr(p), dim)


def bernoulli_cross_entropy(p: Tensor, q: Tensor, *, logits: bool = False) -> Tensor:
    """Cross-entropy ``-p log q - (1 - p) log(1 - q)``, elementwise.

    Parameters
    ----------
    p
        Probabilities of the reference (hard, smoothed or mixed labels).
    q
        Probabilities of the model, or its logits.
    logits
        Whether `q` holds logits.
    """
    if logits:
        return torch.neg(p * logsigmoid(q) + (1 - p) * logsigmoid(-q))
    return torch.neg(torch.special.xlogy(p, q) + torch.special.xlog1py(1 - p, -q))


def categorical_cross_entropy(p: Tensor, q: Tensor, *, logits: bool = False, dim: int = -1) -> Tensor:
    """Cross-entropy ``-sum p log q`` over `dim`.

    Parameters
    ----------
    p
        Probabilities of the reference (hard, smoothed or mixed labels).
    q
        Probabilities of the model, or its logits.
    logits
        Whether `q` holds logits.
    dim
        The classes; reduced.
    """
    if logits:
        return torch.neg(p * log_softmax(q, dim)).sum(dim)
    return torch.neg(torch.special.xlogy(p, q).sum(dim))


def bernoulli_kl(p: Tensor, q: Tensor, *, logits: bool = False) -> Tensor:
    """Divergence ``KL(p || q)`` of Bernoulli distributions, elementwise, at least 0.

    Infinite where `q` excludes what `p` allows.

    Parameters
    ----------
    p
        Probabilities of the reference.
    q
        Probabilities of the model, or its logits.
    logits
        Whether `q` holds logits.
    """
    return (bernoulli_cross_entropy(p, q, logits=logits) - bernoulli_entropy(p)).clamp_min(0)


def categorical_kl(p: Tensor, q: Tensor, *, logits: bool = False, dim: int = -1) -> Tensor:
    """Divergence ``KL(p || q)`` of categorical distributions over `dim`, at least 0.

    Infinite where `q` excludes what `p` allows.

    Parameters
    ----------
    p
        Probabilities of the reference.
    q
        Probabilities of the model, or its logits.
    logits
        Whether `q` holds logits.
    dim
        The classes; reduced.
    """
    return (categorical_cross_entropy(p, q, logits=logits, dim=dim) - categorical_entropy(p, dim=dim)).clamp_min(0)


def entropy(p: Tensor, single_label: bool, *, logits: bool = False) -> Tensor:
    """Entropy of the predictions or labels of each record, with the reduction of the cross-entropy loss.

    Parameters
    ----------
    p : Tensor (..., K)
        Probabilities, or logits.
    single_label
        True: the K values are one categorical distribution. False: they are K Bernoulli distributions, and the result
        is the mean over the classes.
    logits
        Whether `p` holds logits.

    Returns
    -------
    Tensor (...)
        From 0 to log K for a single label, and to log 2 otherwise.
    """
    if single_label:
        return categorical_entropy(p, logits=logits)
    return bernoulli_entropy(p, logits=logits).mean(dim=-1)


def kl(p: Tensor, q: Tensor, single_label: bool, *, logits: bool = False) -> Tensor:
    """Divergence ``KL(p || q)`` of each record, with the reduction of the cross-entropy loss.

    Parameters
    ----------
    p : Tensor (..., K)
        Probabilities of the reference.
    q : Tensor (..., K)
        Probabilities of the model, or its logits.
    single_label
        As in `entropy`.
    logits
        Whether `q` holds logits.

    Returns
    -------
    Tensor (...)
    """
    if single_label:
        return categorical_kl(p, q, logits=logits)
    return bernoulli_kl(p, q, logits=logits).mean(dim=-1)


def gaussian_kl(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor | float = 0.0, other_log_variance: Tensor | float = 0.0
) -> Tensor:
    """Divergence ``KL(N(m, v) || N(m', v'))`` of Gaussians in one dimension, elementwise, at least 0.

    ``(log v' - log v + (v + (m - m')²) / v' - 1) / 2``. Of a Gaussian with diagonal covariance the divergence is the
    sum over its dimensions. The second one is the standard normal unless it is given, as in a variational autoencoder.

    Parameters
    ----------
    mean, log_variance
        Of the reference.
    other_mean, other_log_variance
        Of the other.

    References
    ----------
    Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, appendix B.
    """
    log_ratio = log_variance - other_log_variance
    distance = torch.square(mean - other_mean) * torch.exp(-torch.as_tensor(other_log_variance))
    return 0.5 * (torch.expm1(log_ratio) - log_ratio + distance)
