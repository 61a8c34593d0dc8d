"""Optimizers of a model: plain and momentum gradient descent, and the family that scales each coordinate.

Each factory returns one `torch.optim.Optimizer`. Every parameter group carries ``initial_lr``, so that a
schedule is applied by ``group["lr"] = group["initial_lr"] * multiplier``.

In all of them `weight_decay` is for the weights of 2 or more dimensions alone. *Coupled* decay is added to the
gradient (the gradient of an L2 penalty), so it passes through momentum and scaling; *decoupled* decay
shrinks a weight by ``lr * weight_decay`` of itself, whatever its gradients have been.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from einthoven.optim.groups import (
    check,
    check_below_one,
    check_betas,
    parameter_groups,
    with_initial_lr,
)
from einthoven.optim.lion import Lion
from einthoven.optim.schedule_free import ScheduleFreeAdamW


def sgd(
    model: nn.Module,
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 5e-4,
) -> Optimizer:
    """Gradient descent, with momentum (Polyak's or Nesterov's) or without.

    How stochastic it is is the batch's affair: all records, some, or one. Momentum as in Sutskever et al.,
    "On the importance of initialization and momentum in deep learning", 2013.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    lr, momentum, nesterov
        Peak learning rate; momentum in [0, 1); whether it is Nesterov's (nothing to choose where it is 0).
    weight_decay
        Coupled, so it passes through the momentum; scaled by the learning rate either way.
    """
    check(lr=lr, weight_decay=weight_decay)
    check_below_one(momentum=momentum)
    groups = parameter_groups(model, weight_decay)
    return with_initial_lr(torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0))


def adagrad(model: nn.Module, *, lr: float = 0.02, eps: float = 1e-10, weight_decay: float = 1e-4) -> Optimizer:
    """Adagrad: each coordinate's step is divided by the root of the sum of its squared gradients so far.

    Duchi, Hazan & Singer, "Adaptive subgradient methods", 2011, figure 1 (diagonal). The sum only grows, so
    the steps fall as 1/sqrt(step) by themselves.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    lr, eps
        Peak learning rate; term of the denominator.
    weight_decay
        Coupled.
    """
    check(lr=lr, weight_decay=weight_decay, eps=eps)
    return with_initial_lr(torch.optim.Adagrad(parameter_groups(model, weight_decay), lr=lr, eps=eps))


def rmsprop(
    model: nn.Module,
    *,
    lr: float = 1e-3,
    alpha: float = 0.99,
    momentum: float = 0.0,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
) -> Optimizer:
    """RMSprop: each coordinate's step is divided by a running root mean square of its gradients.

    Tieleman & Hinton, "Neural networks for machine learning", lecture 6.5, 2012.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    lr, alpha, momentum, eps
        Peak learning rate; decay rate of the mean square, and momentum, in [0, 1); term of the denominator.
    weight_decay
        Coupled.
    """
    check(lr=lr, weight_decay=weight_decay, eps=eps)
    check_below_one(alpha=alpha, momentum=momentum)
    groups = parameter_groups(model, weight_decay)
    return with_initial_lr(torch.optim.RMSprop(groups, lr=lr, alpha=alpha, momentum=momentum, eps=eps))


def adam(
    model: nn.Module,
    *,
    lr: float = 4e-3,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
) -> Optimizer:
    """Adam: Kingma & Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    lr, betas, eps
        Peak learning rate; decay rates of the first and second moment, in [0, 1); term of the denominator.
    weight_decay
        Coupled: where gradients are large, it is divided away with them; `adamw` decouples it.
    """
    check(lr=lr, weight_decay=weight_decay, eps=eps)
    first, second = check_betas(betas)
    groups = parameter_groups(model, weight_decay)
    return with_initial_lr(torch.optim.Adam(groups, lr=lr, betas=(first, second), eps=eps, fused=True))


def adamw(
    model: nn.Module,
    *,
    lr: float = 4e-3,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 0.05,
) -> Optimizer:
    """Adam with decoupled weight decay: Loshchilov & Hutter, "Decoupled weight decay regularization", 2019.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    lr, betas, eps
        Peak learning rate; decay rates of the first and second moment, in [0, 1); term of the denominator.
    weight_decay
        Decoupled: fraction of a weight removed per unit of learning rate.
    """
    check(lr=lr, weight_decay=weight_decay, eps=eps)
    first, second = check_betas(betas)
    groups = parameter_groups(model, weight_decay)
    return with_initial_lr(torch.optim.AdamW(groups, lr=lr, betas=(first, second), eps=eps, fused=True))


def nadam(
    model: nn.Module,
    *,
    lr: float = 4e-3,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 0.05,
) -> Optimizer:
    """Adam with Nesterov's momentum: Dozat, "Incorporating Nesterov momentum into Adam", 2016, algorithm 8.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    lr, betas, eps
        Peak learning rate; decay rates of the first and second moment, in [0, 1); term of the denominator.
    weight_decay
        Decoupled, as AdamW's.
    """
    check(lr=lr, weight_decay=weight_decay, eps=eps)
    first, second = check_betas(betas)
    groups = parameter_groups(model, weight_decay)
    return with_initial_lr(
        torch.optim.NAdam(groups, lr=lr, betas=(first, second), eps=eps, decoupled_weight_decay=True)
    )


def lion(
    model: nn.Module, *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.2
) -> Optimizer:
    """Lion: the sign of a momentum; see `einthoven.optim.lion.Lion`.

    Every coordinate moves by `lr` at every step, so it wants a learning rate 3 to 10 times smaller than
    AdamW's, and a weight decay as many times larger (Chen et al. 2023, section 5).

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    lr, betas
        Peak learning rate; weights of the momentum in the update and in its own running mean, in [0, 1).
    weight_decay
        Decoupled.
    """
    check(lr=lr, weight_decay=weight_decay)
    first, second = check_betas(betas)
    return with_initial_lr(Lion(parameter_groups(model, weight_decay), lr=lr, betas=(first, second)))


def schedule_free_adamw(
    model: nn.Module,
    *,
    lr: float = 4e-3,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
    weight_decay: float = 0.05,
) -> Optimizer:
    """AdamW with an average of the iterates in place of a decaying learning rate; see `ScheduleFreeAdamW`.

    Meant for ``schedule=constant``, with a warm-up at most.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    lr, betas, eps
        Learning rate; how far the point of the gradient lies towards the average, in (0, 1), and the decay
        rate of the second moment, in [0, 1); term of the denominator.
    weight_decay
        Decoupled.
    """
    check(lr=lr, weight_decay=weight_decay, eps=eps)
    first, second = check_betas(betas)
    groups = parameter_groups(model, weight_decay)
    return with_initial_lr(ScheduleFreeAdamW(groups, lr=lr, betas=(first, second), eps=eps))
