"""Muon for the hidden matrices of a model, AdamW for its other parameters."""

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
    """Build Muon for the hidden matrices, with AdamW for all other parameters.

    Muon (Jordan et al., 2024) replaces the momentum of a matrix by a nearly orthogonal matrix: five Newton-Schulz
    iterations bring its singular values near 1, so that rare directions move as far as frequent directions. The weight
    of a convolution becomes the matrix (out, in * kernel).

    The step is scaled by ``0.2 sqrt(max(rows, columns))`` (Liu et al., "Muon is scalable for LLM training", 2025,
    equation 4). For every shape, this gives the root mean square of a typical AdamW step. So one learning rate and one
    weight decay fit both rules, and values tuned for `adamw` can be used. The original scaling, ``sqrt(max(1, rows /
    columns))``, needs a separate learning rate.

    Parameters
    ----------
    model
        Its trainable parameters are optimized. Muon optimizes its `hidden_matrices`.
    lr, momentum, nesterov
        Peak learning rate of Muon; its momentum in [0, 1); whether the momentum is Nesterov's.
    weight_decay
        Decoupled, for both rules, on weights of 2 or more dimensions only.
    adamw_lr, betas, eps
        Options of AdamW. Without `adamw_lr`, its learning rate is `lr`.

    Raises
    ------
    UserError
        If an option is out of range, or the model has no hidden matrix.
    """
    if adamw_lr is None:
        adamw_lr = lr
    check(lr=lr, adamw_lr=adamw_lr, weight_decay=weight_decay, eps=eps)
    check_below_one(momentum=momentum)
    betas = check_betas(betas)
    hidden = hidden_matrices(model)
    if not hidden:
        raise UserError("optimizer: muon needs a model with hidden matrices, this one has none; use adamw or sgd")
    matrices = {matrix_view(weight): weight for weight in hidden}
    hidden_set = set(hidden)
    rest = [p for p in model.parameters() if p.requires_grad and p not in hidden_set]
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
        optimizers.append(torch.optim.AdamW(groups, lr=adamw_lr, betas=betas, eps=eps, fused=True))
    return with_initial_lr(Mixture(optimizers, matrices))


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """List the weights that act as matrices between hidden features, in the order of the model.

    These are the trainable parameters with ``weight`` in their name and 2 or more dimensions (linear, convolutional,
    recurrent, attention). Three kinds are left out: the last linear layer, whose rows are classes; embeddings, which
    are tables of vectors; and a weight that is a single row or column after its kernel is flattened.
    """
    excluded = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    linear = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    excluded.update(linear[-1:])
    matrices = []
    for name, parameter in model.named_parameters():
        is_weight = "weight" in name.rpartition(".")[2] and parameter.ndim >= 2
        if not is_weight or not parameter.requires_grad or parameter in excluded:
            continue
        rows = parameter.shape[0]
        columns = parameter[0].numel()
        if min(rows, columns) > 1:
            matrices.append(parameter)
    return matrices
