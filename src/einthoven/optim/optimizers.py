"""Optimizers of a model: which parameter is updated by which rule, and which ones decay.

Each factory returns one `torch.optim.Optimizer`. Every parameter group carries ``initial_lr``, so that a
schedule is applied by ``group["lr"] = group["initial_lr"] * multiplier``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from einthoven.errors import UserError
from einthoven.optim.mixture import Mixture, matrix_view


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into one group that decays and one that does not.

    Biases, the gains of normalization layers and every other parameter of fewer than 2 dimensions are not
    decayed: pulling them to zero removes no capacity and biases the fit.

    Parameters
    ----------
    model
        Its trainable parameters, each once, in the order of ``model.named_parameters()``.
    weight_decay
        Decay of the weights of 2 or more dimensions.

    Returns
    -------
    list of dict
        Parameter groups for a torch optimizer; a group that would be empty is left out.

    Raises
    ------
    ValueError
        If the model has no trainable parameter.
    """
    return _decay_groups([p for p in model.parameters() if p.requires_grad], weight_decay)


def sgd(
    model: nn.Module,
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 5e-4,
) -> Optimizer:
    """Stochastic gradient descent with (Nesterov) momentum.

    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013. The decay is
    the classic one, added to the gradient, so it passes through the momentum; scaled by the learning rate
    either way.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    lr, momentum, nesterov
        Peak learning rate; momentum in [0, 1); whether it is Nesterov's (nothing to choose where it is 0).
    weight_decay
        For weights of 2 or more dimensions alone.
    """
    _check(lr=lr, weight_decay=weight_decay)
    _check_below_one(momentum=momentum)
    groups = parameter_groups(model, weight_decay)
    return _with_initial_lr(torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0))


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
        Fraction of a weight removed per unit of learning rate; for weights of 2 or more dimensions alone.
    """
    _check(lr=lr, weight_decay=weight_decay, eps=eps)
    first, second = _check_betas(betas)
    groups = parameter_groups(model, weight_decay)
    return _with_initial_lr(torch.optim.AdamW(groups, lr=lr, betas=(first, second), eps=eps, fused=True))


def muon(
    model: nn.Module,
    *,
    lr: float = 4e-3,
    momentum: float = 0.95,
    nesterov: bool = True,
    weight_decay: float = 0.05,
    adamw_lr: float | None = None,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-8,
) -> Optimizer:
    """Muon on the hidden matrices, AdamW on everything else.

    Muon (Jordan et al., 2024) replaces the momentum of a matrix by a nearly orthogonal one: five
    Newton-Schulz iterations bring its singular values near 1, so that rare directions move as far as frequent
    ones. A convolution's weight is seen as the matrix (out, in * kernel). The step is scaled by ``0.2
    sqrt(max(rows, columns))`` (Liu et al., "Muon is scalable for LLM training", 2025, equation 4), which
    gives it the root mean square of a typical AdamW step whatever the shape: one learning rate and one weight
    decay then serve both rules, and one tuned for `adamw` carries over. The original scaling, ``sqrt(max(1,
    rows / columns))``, would ask for a learning rate of its own.

    Parameters
    ----------
    model
        Its trainable parameters are optimized; see `hidden_matrices` for which ones by Muon.
    lr, momentum, nesterov
        Peak learning rate of Muon; its momentum in [0, 1); whether it is Nesterov's.
    weight_decay
        Decoupled, for both rules; for weights of 2 or more dimensions alone.
    adamw_lr, betas, eps
        Of AdamW; without `adamw_lr`, it takes `lr`.

    Raises
    ------
    UserError
        If an option is out of range, or the model has no hidden matrix.
    """
    adamw_lr = lr if adamw_lr is None else adamw_lr
    _check(lr=lr, adamw_lr=adamw_lr, weight_decay=weight_decay, eps=eps)
    _check_below_one(momentum=momentum)
    first, second = _check_betas(betas)
    hidden = hidden_matrices(model)
    if not hidden:
        raise UserError("optimizer: muon needs a model with hidden matrices, this one has none; use adamw or sgd")
    matrices = {matrix_view(weight): weight for weight in hidden}
    chosen = set(hidden)
    rest = [p for p in model.parameters() if p.requires_grad and p not in chosen]
    optimizers: list[Optimizer] = [
        torch.optim.Muon(
            list(matrices),
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            adjust_lr_fn="match_rms_adamw",
        )
    ]
    if rest:
        groups = _decay_groups(rest, weight_decay)
        optimizers.append(torch.optim.AdamW(groups, lr=adamw_lr, betas=(first, second), eps=eps, fused=True))
    return _with_initial_lr(Mixture(optimizers, matrices))


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """List the weights that act as matrices between hidden features, in the model's order.

    These are the trainable parameters with ``weight`` in their name and 2 or more dimensions (linear,
    convolutional, recurrent, attention), except the last linear layer, whose rows are classes, and
    embeddings, which are tables of vectors; nor any that is a single row or column once its kernel is
    flattened.
    """
    excluded = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    linear = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    excluded.update(linear[-1:])
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and "weight" in name.rpartition(".")[2]
        and parameter.ndim >= 2
        and parameter not in excluded
        and min(parameter.shape[0], parameter[0].numel()) > 1
    ]


def _decay_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    if not parameters:
        raise ValueError("the model has no trainable parameter")
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _with_initial_lr(optimizer: Optimizer) -> Optimizer:
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def _check(**options: float) -> None:
    for name, value in options.items():
        if not 0.0 <= value < float("inf"):
            raise UserError(f"optimizer: {name} must be a number of at least 0, found {value}")


def _check_below_one(**options: float) -> None:
    for name, value in options.items():
        if not 0.0 <= value < 1.0:
            raise UserError(f"optimizer: {name} must lie in [0, 1), found {value}")


def _check_betas(betas: tuple[float, float]) -> tuple[float, float]:
    # A config hands over a list, of any length.
    if len(betas) != 2:
        raise UserError(f"optimizer: betas must be two numbers, found {list(betas)}")
    first, second = betas
    _check_below_one(**{"betas[0]": first, "betas[1]": second})
    return first, second
