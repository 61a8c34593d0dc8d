"""Classification losses in nats, one value per record, for hard, smoothed and mixed labels.

A loss is a function ``f(logits, y, *, output, prior)`` of logits and labels (B, K). `output` names the activation of
the logits. ``sigmoid``: K Bernoulli distributions, and the loss is the mean over the classes. ``softmax``: one
categorical distribution. ``identity``: a quantity, which no loss of this module accepts. `prior` (K,) is the share of
positive training records of each class, or None.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from einthoven.errors import UserError

MOST_EXPONENT = 100
"""Largest exponent of a focal loss. With more, hardly any record counts, and a gradient may not be finite."""


def binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the Bernoulli negative log-likelihood, averaged over the classes.

    ``-y log σ(z) - (1 - y) log(1 - σ(z))``. It is computed from the logits, so that it is finite for all logits.

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
    """Return the categorical negative log-likelihood ``-Σ_k y_k log softmax(z)_k``.

    Parameters
    ----------
    logits, y : Tensor (B, K)
        Each row of `y` is a distribution over the classes (one-hot, or mixed).

    Returns
    -------
    Tensor (B,)
    """
    return -(y * F.log_softmax(logits, dim=-1)).sum(dim=-1)


def cross_entropy(
    logits: Tensor,
    y: Tensor,
    *,
    output: str = "sigmoid",
    prior: Tensor | None = None,
    class_weight: str = "none",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the negative log-likelihood, binary or categorical, with options for label smoothing and class weights.

    Parameters
    ----------
    logits, y : Tensor (B, K)
    output : str
        ``sigmoid`` or ``softmax``.
    prior : Tensor (K,), optional
        Needed for ``balanced``. Without it, all classes have the same weight.
    class_weight : str
        ``none``, or ``balanced``: the weights of `balanced_weights`.
    label_smoothing : float
        ε in [0, 1) of `smooth_labels`.

    Returns
    -------
    Tensor (B,)

    Raises
    ------
    UserError
        If an option is out of its range, or the output is no sigmoid and no softmax.

    References
    ----------
    Label smoothing: Szegedy et al., "Rethinking the Inception architecture", CVPR 2016, section 7.
    """
    _require_classes("cross_entropy", output)
    if class_weight not in ("none", "balanced"):
        raise UserError(f"loss.class_weight={class_weight}: expected none or balanced.")
    if not 0 <= label_smoothing < 1:
        raise UserError(f"loss.label_smoothing={label_smoothing}: expected a number from 0 to below 1.")
    y = smooth_labels(y, label_smoothing, output)
    if class_weight == "none" or prior is None:
        if output == "sigmoid":
            return binary_cross_entropy(logits, y)
        return softmax_cross_entropy(logits, y)
    positive, negative = balanced_weights(prior, output)
    if output == "softmax":
        return softmax_cross_entropy(logits, positive * y)
    weight = positive * y + negative * (1 - y)
    per_class = F.binary_cross_entropy_with_logits(logits, y, weight=weight, reduction="none")
    return per_class.mean(dim=-1)


def smooth_labels(y: Tensor, label_smoothing: float, output: str) -> Tensor:
    """Return smoothed labels (..., K): ``(1 - ε) y + ε u``, where u is one half (sigmoid) or 1/K (softmax)."""
    if not label_smoothing:
        return y
    uniform = 0.5 if output == "sigmoid" else 1 / y.shape[-1]
    return y + label_smoothing * (uniform - y)


def balanced_weights(prior: Tensor, output: str) -> tuple[Tensor, Tensor]:
    """Return weights by inverse frequency, whose mean over the training records is 1.

    With ``sigmoid``, a class with a share f of positive records has the weight ``1 / (2 f)`` for positive records and
    ``1 / (2 (1 - f))`` for negative records. With ``softmax``, each record has one of K classes, and the weight is
    ``1 / (K f)``. A label that does not occur has the weight 0.

    Parameters
    ----------
    prior : Tensor (K,)
    output : str
        ``sigmoid`` or ``softmax``.

    Returns
    -------
    positive, negative : Tensor (K,)

    References
    ----------
    King & Zeng, "Logistic regression in rare events data", Political Analysis 9, 2001, section 3.2.
    """
    alternatives = 2 if output == "sigmoid" else len(prior)
    negative_share = 1 - prior
    positive = torch.where(prior > 0, 1 / (alternatives * prior), 0.0)
    negative = torch.where(negative_share > 0, 1 / (alternatives * negative_share), 0.0)
    return positive, negative


def focal(
    logits: Tensor,
    y: Tensor,
    *,
    output: str = "sigmoid",
    prior: Tensor | None = None,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Tensor:
    """Return the focal loss: cross-entropy in which confident correct predictions count less.

    ``-(1 - p_t)^γ log p_t``, where p_t is the probability of the correct label.

    Parameters
    ----------
    logits, y : Tensor (B, K)
    output : str
        ``sigmoid`` or ``softmax``.
    prior : Tensor, optional
        Not used.
    gamma : float
        Exponent, 0 or more. With 0, the loss is the cross-entropy.
    alpha : float or None
        Weight of positive labels, for ``sigmoid`` only. Negative labels have the weight 1 - alpha. None: no weights.

    Returns
    -------
    Tensor (B,)

    Raises
    ------
    UserError
        If an option is out of its range or does not fit the outputs.

    References
    ----------
    Lin et al., "Focal loss for dense object detection", ICCV 2017, equations 4 and 5.
    """
    _require_classes("focal", output)
    _require_exponent("gamma", gamma)
    if alpha is not None and not 0 < alpha < 1:
        raise UserError(f"loss.alpha={alpha}: expected a number between 0 and 1, or null.")
    if output == "softmax":
        if alpha is not None:
            raise UserError(
                f"loss.alpha={alpha}: it weighs positive labels against negative labels, and with a single label there "
                "are no negative labels; expected null."
            )
        log_p = F.log_softmax(logits, dim=-1)
        return -(y * _power(1 - log_p.exp(), gamma) * log_p).sum(dim=-1)
    log_p = F.logsigmoid(logits)
    log_not_p = F.logsigmoid(-logits)
    positive_weight, negative_weight = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    positive_term = positive_weight * y * (gamma * log_not_p).exp() * log_p
    negative_term = negative_weight * (1 - y) * (gamma * log_p).exp() * log_not_p
    return -(positive_term + negative_term).mean(dim=-1)


def asymmetric(
    logits: Tensor,
    y: Tensor,
    *,
    output: str = "sigmoid",
    prior: Tensor | None = None,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    margin: float = 0.05,
) -> Tensor:
    """Return the asymmetric loss: a focal loss with separate exponents for positive and negative labels.

    Negative labels with a probability below the margin have no loss.
    ``-y (1 - p)^γ₊ log p - (1 - y) p_m^γ₋ log(1 - p_m)`` with ``p_m = max(p - m, 0)``.

    Parameters
    ----------
    logits, y : Tensor (B, K)
    output : str
        ``sigmoid``.
    prior : Tensor, optional
        Not used.
    gamma_positive, gamma_negative : float
        Exponents γ₊ and γ₋, 0 or more.
    margin : float
        m in [0, 1).

    Returns
    -------
    Tensor (B,)

    Raises
    ------
    UserError
        If an option is out of its range, or the output is no sigmoid.

    References
    ----------
    Ridnik et al., "Asymmetric loss for multi-label classification", ICCV 2021, equations 4 to 7.
    """
    _require_classes("asymmetric", output)
    if output == "softmax":
        raise UserError(
            "loss=asymmetric: it treats positive and negative labels differently, and with task.single_label=true "
            "there are no negative labels; expected cross_entropy or focal."
        )
    _require_exponent("gamma_positive", gamma_positive)
    _require_exponent("gamma_negative", gamma_negative)
    if not 0 <= margin < 1:
        raise UserError(f"loss.margin={margin}: expected a number from 0 to below 1.")
    log_p = F.logsigmoid(logits)
    log_not_p = F.logsigmoid(-logits)

    # log(1 - p_m), where 1 - p_m = min(1 - p + m, 1). The sum is computed from logarithms, so that it is exact where
    # 1 - p is smaller than the rounding error.
    log_not_p_shifted = log_not_p
    if margin:
        log_margin = torch.full_like(log_not_p, math.log(margin))
        log_not_p_shifted = torch.logaddexp(log_not_p, log_margin).clamp_max(0)

    p_shifted = (log_p.exp() - margin).clamp_min(0)
    positive_term = y * (gamma_positive * log_not_p).exp() * log_p
    negative_term = (1 - y) * _power(p_shifted, gamma_negative) * log_not_p_shifted
    return -(positive_term + negative_term).mean(dim=-1)


def _power(base: Tensor, exponent: float) -> Tensor:
    """Return ``base ** exponent`` for a base in [0, 1], with a finite slope also at 0."""
    if not exponent:
        return torch.ones_like(base)
    return base.clamp_min(torch.finfo(base.dtype).eps) ** exponent


def _require_classes(name: str, output: str) -> None:
    if output in ("sigmoid", "softmax"):
        return
    if output == "identity":
        raise UserError(f"loss={name}: it is a loss of classes, and this task predicts a quantity; expected mse.")
    raise UserError(
        f"loss={name}: it is a loss of classes, and this task reads no labels; leave it out, and the task chooses its "
        "own loss."
    )


def _require_exponent(name: str, value: float) -> None:
    if not 0 <= value <= MOST_EXPONENT:
        raise UserError(f"loss.{name}={value}: expected a number from 0 to {MOST_EXPONENT}.")
