"""Factories of optimizers: gradient descent with momentum, and optimizers that scale each coordinate.

Each factory takes the model whose trainable parameters are optimized, and returns one `torch.optim.Optimizer`. Options
that the factories share:

``lr``
    Peak learning rate. Every parameter group stores it as ``initial_lr``, so that a schedule is applied by
    ``group["lr"] = group["initial_lr"] * multiplier``.
``betas``
    Decay rates of the running means of the gradient and of its square, in [0, 1).
``eps``
    Number added to the denominator.
``weight_decay``
    Acts on weights of 2 or more dimensions only. *Coupled* decay is added to the gradient (it is the gradient of an L2
    penalty), so it passes through momentum and scaling. *Decoupled* decay shrinks a weight by ``lr * weight_decay`` of
    itself, for any gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from einthoven.optim.groups import check, check_below_one, check_betas, parameter_groups, with_initial_lr
from einthoven.optim.lion import Lion
from einthoven.optim.schedule_free import ScheduleFreeAdamW


def _make(
    optimizer_class: Callable[..., Optimizer], model: nn.Module, weight_decay: float, **options: Any
) -> Optimizer:
    """Check the options that the factories share, and build an optimizer over the parameter groups of a model."""
    sizes = {name: options[name] for name in ("lr", "eps") if name in options}
    fractions = {name: options[name] for name in ("alpha", "momentum") if name in options}
    check(**sizes, weight_decay=weight_decay)
    check_below_one(**fractions)
    if "betas" in options:
        options["betas"] = check_betas(options["betas"])
    return with_initial_lr(optimizer_class(parameter_groups(model, weight_decay), **options))


def sgd(
    model: nn.Module,
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 5e-4,
) -> Optimizer:
    """Build gradient descent without momentum, or with Polyak's or Nesterov's momentum.

    The batch size decides how stochastic it is. Momentum as in Sutskever et al., "On the importance of initialization
    and momentum in deep learning", 2013.

    Parameters
    ----------
    momentum, nesterov
        Momentum in [0, 1); whether it is Nesterov's (no effect if the momentum is 0).
    weight_decay
        Coupled.
    """
    uses_nesterov = nesterov and momentum > 0
    return _make(torch.optim.SGD, model, weight_decay, lr=lr, momentum=momentum, nesterov=uses_nesterov)


def adagrad(model: nn.Module, *, lr: float = 0.02, eps: float = 1e-10, weight_decay: float = 1e-4) -> Optimizer:
    """Build Adagrad: the step of a coordinate is divided by the root of the sum of its squared gradients so far.

    Duchi, Hazan & Singer, "Adaptive subgradient methods", 2011, figure 1 (diagonal). The sum only grows, so the steps
    shrink as 1/sqrt(step) without a schedule. Weight decay is coupled.
    """
    return _make(torch.optim.Adagrad, model, weight_decay, lr=lr, eps=eps)


def rmsprop(
    model: nn.Module,
    *,
    lr: float = 1e-3,
    alpha: float = 0.99,
    momentum: float = 0.0,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
) -> Optimizer:
    """Build RMSprop: the step of a coordinate is divided by a running root mean square of its gradients.

    Tieleman & Hinton, "Neural networks for machine learning", lecture 6.5, 2012. Weight decay is coupled.

    Parameters
    ----------
    alpha, momentum
        Decay rate of the mean square; momentum; both in [0, 1).
    """
    return _make(torch.optim.RMSprop, model, weight_decay, lr=lr, alpha=alpha, momentum=momentum, eps=eps)


def adam(
    model: nn.Module,
    *,
    lr: float = 4e-3,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
) -> Optimizer:
    """Build Adam: Kingma & Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.

    Weight decay is coupled, so a coordinate with large gradients decays less. `adamw` decouples it.
    """
    return _make(torch.optim.Adam, model, weight_decay, lr=lr, betas=betas, eps=eps, fused=True)


def adamw(
    model: nn.Module,
    *,
    lr: float = 4e-3,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 0.05,
) -> Optimizer:
    """Build Adam with decoupled weight decay: Loshchilov & Hutter, "Decoupled weight decay regularization", 2019."""
    return _make(torch.optim.AdamW, model, weight_decay, lr=lr, betas=betas, eps=eps, fused=True)


def nadam(
    model: nn.Module,
    *,
    lr: float = 4e-3,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 0.05,
) -> Optimizer:
    """Build Adam with Nesterov's momentum: Dozat, "Incorporating Nesterov momentum into Adam", 2016, algorithm 8.

    Weight decay is decoupled.
    """
    return _make(torch.optim.NAdam, model, weight_decay, lr=lr, betas=betas, eps=eps, decoupled_weight_decay=True)


def lion(
    model: nn.Module, *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.2
) -> Optimizer:
    """Build Lion, which steps along the sign of a momentum; see `einthoven.optim.lion.Lion`.

    Every coordinate moves by `lr` in every step. So Lion needs a learning rate 3 to 10 times smaller than AdamW, and a
    decoupled weight decay larger by the same factor (Chen et al. 2023, section 5).

    Parameters
    ----------
    betas
        Weights of the momentum in the update and in its own running mean, in [0, 1).
    """
    return _make(Lion, model, weight_decay, lr=lr, betas=betas)


def schedule_free_adamw(
    model: nn.Module,
    *,
    lr: float = 4e-3,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 0.05,
) -> Optimizer:
    """Build AdamW with an average of the weights in place of a decaying learning rate; see `ScheduleFreeAdamW`.

    Use it with ``schedule=constant``, with or without a warm-up. Weight decay is decoupled.

    Parameters
    ----------
    betas
        Position of the gradient between the steps (0) and their average (1), in (0, 1); decay rate of the mean square,
        in [0, 1).
    """
    return _make(ScheduleFreeAdamW, model, weight_decay, lr=lr, betas=betas, eps=eps)
