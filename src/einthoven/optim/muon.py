"""Muon for the hidden matrices of a model, AdamW for the rest of it."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from einthoven.errors import UserError
from einthoven.optim.groups import check, check_below_one, check_betas, decay_groups, with_initial_lr
from einthoven.optim.mixture import Mixture, matrix_view


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
    check(lr=lr, adamw_lr=adamw_lr, weight_decay=weight_decay, eps=eps)
    check_below_one(momentum=momentum)
    first, second = check_betas(betas)
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
        groups = decay_groups(rest, weight_decay)
        optimizers.append(torch.optim.AdamW(groups, lr=adamw_lr, betas=(first, second), eps=eps, fused=True))
    return with_initial_lr(Mixture(optimizers, matrices))


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
