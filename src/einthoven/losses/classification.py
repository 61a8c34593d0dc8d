"""Classification losses in nats, one value per record, for hard, smoothed and mixed labels.

A loss is a function ``f(logits, y, *, output, prior)`` of logits and labels (B, K). `output` says what the logits
are made into: ``sigmoid``, K Bernoulli distributions (the loss is the mean over classes); ``softmax``, one categorical
distribution; ``identity``, a quantity, which no loss here takes. `prior` (K,) is the share of the training records
that is positive for each class, where it is known.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from einthoven.errors import UserError

MOST_EXPONENT = 100
"""Of a focal loss; beyond, hardly any record counts, and a gradient may not be finite."""


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


def cross_entropy(
    logits: Tensor,
    y: Tensor,
    *,
    output: str = "sigmoid",
    prior: Tensor | None = None,
    class_weight: str = "none",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Negative log-likelihood, binary for each class or categorical; with smoothed labels and weighted classes.

    Parameters
    ----------
    logits, y : Tensor (B, K)
    output : str
        ``sigmoid`` or ``softmax``.
    prior : Tensor (K,), optional
        For ``balanced``; without it, classes weigh the same.
    class_weight : str
        ``none``, or ``balanced``: by inverse frequency, as `balanced_weights` says.
    label_smoothing : float
        ε in [0, 1): labels are ``(1 - ε) y + ε u``, where u is one half (sigmoid) or 1/K (softmax).

    Returns
    -------
    Tensor (B,)

    Raises
    ------
    UserError
        If an option is out of its range, or the outputs are not those of a classifier.

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
        return binary_cross_entropy(logits, y) if output == "sigmoid" else softmax_cross_entropy(logits, y)
    positive, negative = balanced_weights(prior, output)
    if output == "softmax":
        return softmax_cross_entropy(logits, positive * y)
    return F.binary_cross_entropy_with_logits(
        logits, y, weight=positive * y + negative * (1 - y), reduction="none"
    ).mean(dim=-1)


def smooth_labels(y: Tensor, label_smoothing: float, output: str) -> Tensor:
    """Labels of `cross_entropy` (..., K): ``(1 - ε) y + ε u``, where u is one half (sigmoid) or 1/K (softmax)."""
    if not label_smoothing:
        return y
    uniform = 0.5 if output == "sigmoid" else 1 / y.shape[-1]
    return y + label_smoothing * (uniform - y)


def balanced_weights(prior: Tensor, output: str) -> tuple[Tensor, Tensor]:
    """Weights by inverse frequency, whose mean over the training records is 1.

    ``1 / (2 f)`` for the positive and ``1 / (2 (1 - f))`` for the negative records of a class with share f, and
    ``1 / (K f)`` where each record has one of K classes; 0 for what does not occur.

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
    among = 2 if output == "sigmoid" else len(prior)
    positive, negative = (torch.where(share > 0, 1 / (among * share), 0.0) for share in (prior, 1 - prior))
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
    """Cross-entropy in which what is already right counts less: ``-(1 - p_t)^γ log p_t``.

    Parameters
    ----------
    logits, y : Tensor (B, K)
    output : str
        ``sigmoid`` or ``softmax``.
    prior : Tensor, optional
        Not used.
    gamma : float
        0 or more; 0 is the cross-entropy.
    alpha : float or None
        Weight of the positives, 1 - alpha that of the negatives, of each class of a ``sigmoid``; None: no weights.

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
                f"loss.alpha={alpha}: weighs positives against negatives, and with a single label there are no "
                "negatives; expected null."
            )
        log_p = F.log_softmax(logits, dim=-1)
        return -(y * _powered(1 - log_p.exp(), gamma) * log_p).sum(dim=-1)
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    hit = positive * y * (gamma * log_not_p).exp() * log_p
    rejected = negative * (1 - y) * (gamma * log_p).exp() * log_not_p
    return -(hit + rejected).mean(dim=-1)


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
    """Focal loss with an exponent of its own for negatives, of which those below a margin count nothing.

    ``-y (1 - p)^γ₊ log p - (1 - y) p_m^γ₋ log(1 - p_m)`` with ``p_m = max(p - m, 0)``.

    Parameters
    ----------
    logits, y : Tensor (B, K)
    output : str
        ``sigmoid``.
    prior : Tensor, optional
        Not used.
    gamma_positive, gamma_negative : float
        0 or more.
    margin : float
        m in [0, 1).

    Returns
    -------
    Tensor (B,)

    Raises
    ------
    UserError
        If an option is out of its range, or the outputs are not sigmoids.

    References
    ----------
    Ridnik et al., "Asymmetric loss for multi-label classification", ICCV 2021, equations 4 to 7.
    """
    _require_classes("asymmetric", output)
    if output == "softmax":
        raise UserError(
            "loss=asymmetric: tells the positives of a class from its negatives, and with task.single_label=true there "
            "are no negatives; expected cross_entropy or focal."
        )
    _require_exponent("gamma_positive", gamma_positive)
    _require_exponent("gamma_negative", gamma_negative)
    if not 0 <= margin < 1:
        raise UserError(f"loss.margin={margin}: expected a number from 0 to below 1.")
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    if margin:  # 1 - p_m = min(1 - p + m, 1), from logarithms so that it is exact where 1 - p is below rounding
        shifted = torch.logaddexp(log_not_p, torch.full_like(log_not_p, math.log(margin))).clamp_max(0)
    else:
        shifted = log_not_p
    hit = y * (gamma_positive * log_not_p).exp() * log_p
    rejected = (1 - y) * _powered((log_p.exp() - margin).clamp_min(0), gamma_negative) * shifted
    return -(hit + rejected).mean(dim=-1)


def _powered(base: Tensor, exponent: float) -> Tensor:
    """``base ** exponent`` for a base in [0, 1], whose slope is finite at 0 too."""
    return base.clamp_min(torch.finfo(base.dtype).eps) ** exponent if exponent else torch.ones_like(base)


def _require_classes(name: str, output: str) -> None:
    if output not in ("sigmoid", "softmax"):
        raise UserError(f"loss={name}: is of classes, and this task asks for a quantity; expected mse.")


def _require_exponent(name: str, value: float) -> None:
    if not 0 <= value <= MOST_EXPONENT:
        raise UserError(f"loss.{name}={value}: expected a number from 0 to {MOST_EXPONENT}.")
