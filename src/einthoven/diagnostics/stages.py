"""Stages of a network (its direct children), and norms over each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

Stages = Mapping[str, Sequence[nn.Parameter]]


def stages(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the trainable parameters of each stage, in the order of the network's direct children.

    A child without trainable parameters is not a stage. A parameter that several children share belongs to the first
    of them. Parameters of the network itself (a single layer, a class token) form a first stage named ``network``.

    Raises
    ------
    ValueError
        If no parameter is trainable.
    """
    parameters_of_stages: dict[str, list[nn.Parameter]] = {}
    counted: set[nn.Parameter] = set()
    candidates = [("network", network.parameters(recurse=False))]
    candidates += [(name, child.parameters()) for name, child in network.named_children()]
    for name, parameters in candidates:
        trainable = [p for p in parameters if p.requires_grad and p not in counted]
        counted.update(trainable)
        if trainable:
            parameters_of_stages[name] = trainable
    if not parameters_of_stages:
        raise ValueError(f"{type(network).__name__} has no trainable parameter")
    return parameters_of_stages


def trained(stages: Stages) -> Stages:
    """Return the stages with a parameter that is trained at the moment. A gradual fine-tuning freezes the others."""
    return {name: parameters for name, parameters in stages.items() if any(p.requires_grad for p in parameters)}


@torch.no_grad()
def stage_norms(tensors: Mapping[str, Sequence[Tensor]], order: float = 2.0) -> dict[str, Tensor]:
    """Return the L1 or L2 norm (`order` 1 or 2) over all tensors of each stage, as device tensors; 0 for no tensors."""
    # This runs in training steps: one fused kernel for all tensors of the network is faster than one kernel per tensor.
    all_tensors = [tensor for stage in tensors.values() for tensor in stage]
    if all_tensors:
        norms = torch.stack([norm.float() for norm in torch._foreach_norm(all_tensors, order)])
    else:
        norms = torch.zeros(0)

    # The norm of a stage is the norm of the norms of its tensors.
    norms_of_stages = torch.split(norms, [len(stage) for stage in tensors.values()])
    return {name: torch.linalg.vector_norm(stage, order) for name, stage in zip(tensors, norms_of_stages, strict=True)}


def gradients(stages: Stages) -> dict[str, list[Tensor]]:
    """Return the gradients of each stage. A parameter without gradient is left out, as its gradient is zero."""
    return {name: [p.grad for p in parameters if p.grad is not None] for name, parameters in stages.items()}
