"""Entropy, Kullback-Leibler divergence and cross-entropy, in nats.

The Bernoulli functions work elementwise and keep the shape. The categorical functions sum over `dim`. `entropy` and
`kl` return one value per record. They use the same reduction as the losses: the mean over the classes in multi-label
tasks.

The distribution of the model can be passed as logits (``logits=True``). Logits stay exact where probabilities would
round to 0 or 1. In functions of two distributions, the first one is the reference and the second one is the model's.

For both families, ``cross_entropy(p, q) = entropy(p) + kl(p, q)``. The definitions are those of Cover & Thomas,
"Elements of Information Theory", chapter 2, with ``0 log 0 = 0``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid


def bernoulli_entropy(p: Tensor, *, logits: bool = False) -> Tensor:
    """Return the entropy of Bernoulli distributions, elementwise, from 0 to log 2.

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
    """Return the entropy of categorical distributions over `dim`, from 0 to log K.

    Parameters
    ----------
    p
        Probabilities that sum to 1 over `dim`, or logits.
    logits
        Whether `p` holds logits.
    dim
        The dimension of the classes. The result does not have it.
    """
    if logits:
        log_p = log_softmax(p, dim)
        return torch.neg(log_p.exp() * log_p).sum(dim)
    return torch.sum(torch.special.entr(p), dim)


def bernoulli_cross_entropy(p: Tensor, q: Tensor, *, logits: bool = False) -> Tensor:
    """Return the cross-entropy ``-p log q - (1 - p) log(1 - q)``, elementwise.

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
    """Return the cross-entropy ``-sum p log q`` over `dim`.

    Parameters
    ----------
    p
        Probabilities of the reference (hard, smoothed or mixed labels).
    q
        Probabilities of the model, or its logits.
    logits
        Whether `q` holds logits.
    dim
        The dimension of the classes. The result does not have it.
    """
    if logits:
        return torch.neg(p * log_softmax(q, dim)).sum(dim)
    return torch.neg(torch.special.xlogy(p, q).sum(dim))


def bernoulli_kl(p: Tensor, q: Tensor, *, logits: bool = False) -> Tensor:
    """Return the divergence ``KL(p || q)`` of Bernoulli distributions, elementwise, at least 0.

    It is infinite where `q` gives probability 0 to an outcome that is possible under `p`.

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
    """Return the divergence ``KL(p || q)`` of categorical distributions over `dim`, at least 0.

    It is infinite where `q` gives probability 0 to an outcome that is possible under `p`.

    Parameters
    ----------
    p
        Probabilities of the reference.
    q
        Probabilities of the model, or its logits.
    logits
        Whether `q` holds logits.
    dim
        The dimension of the classes. The result does not have it.
    """
    cross_entropy = categorical_cross_entropy(p, q, logits=logits, dim=dim)
    return (cross_entropy - categorical_entropy(p, dim=dim)).clamp_min(0)


def entropy(p: Tensor, single_label: bool, *, logits: bool = False) -> Tensor:
    """Return the entropy of the predictions or labels of each record, reduced as in the cross-entropy loss.

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
        From 0 to log K with `single_label`, otherwise from 0 to log 2.
    """
    if single_label:
        return categorical_entropy(p, logits=logits)
    return bernoulli_entropy(p, logits=logits).mean(dim=-1)


def kl(p: Tensor, q: Tensor, single_label: bool, *, logits: bool = False) -> Tensor:
    """Return the divergence ``KL(p || q)`` of each record, reduced as in the cross-entropy loss.

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


def kl_of_logits(p: Tensor, q: Tensor, single_label: bool) -> Tensor:
    """Return the divergence ``KL(p || q)`` of each record, where both distributions are given as logits.

    It is exact where probabilities would round to 0 or 1, and its gradients with respect to both arguments are finite.
    So either argument can be the model: the divergence in both directions can be trained. Rounding can make a
    divergence of almost equal distributions slightly negative.

    Parameters
    ----------
    p : Tensor (..., K)
        Logits of the reference.
    q : Tensor (..., K)
        Logits of the second distribution.
    single_label
        As in `entropy`.

    Returns
    -------
    Tensor (...)
    """
    if single_label:
        log_p = log_softmax(p, -1)
        return (log_p.exp() * (log_p - log_softmax(q, -1))).sum(-1)
    positive = torch.sigmoid(p) * (logsigmoid(p) - logsigmoid(q))
    negative = torch.sigmoid(-p) * (logsigmoid(-p) - logsigmoid(-q))
    return torch.add(positive, negative).mean(dim=-1)


def gaussian_kl(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor | float = 0.0, other_log_variance: Tensor | float = 0.0
) -> Tensor:
    """Return the divergence ``KL(N(m, v) || N(m', v'))`` of Gaussians in one dimension, elementwise, at least 0.

    It is ``(log v' - log v + (v + (m - m')²) / v' - 1) / 2``. The divergence of Gaussians with diagonal covariance is
    the sum of this over the dimensions. By default, the second Gaussian is the standard normal distribution, as in a
    variational autoencoder.

    Parameters
    ----------
    mean, log_variance
        Mean m and logarithm of the variance v of the reference.
    other_mean, other_log_variance
        Mean m' and logarithm of the variance v' of the second Gaussian.

    References
    ----------
    Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, appendix B.
    """
    log_ratio = log_variance - other_log_variance
    distance = torch.square(mean - other_mean) * torch.exp(-torch.as_tensor(other_log_variance))
    return 0.5 * (torch.expm1(log_ratio) - log_ratio + distance)
