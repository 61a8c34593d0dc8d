"""The stages of a network, its direct children, and norms over each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

Stages = Mapping[str, Sequence[nn.Parameter]]


def stages(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters of each stage: the network's direct children, in their order.

    A child without trainable parameters is no stage; a parameter shared by several belongs to the first.
    Parameters that the network holds itself (a lone layer, a class token) are a first stage named
    ``network``.

    Raises
    ------
    ValueError
        If nothing is trainable.
    """
    found: dict[str, list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    held = ("network", network.parameters(recurse=False))
    for name, parameters in [held, *((name, child.parameters()) for name, child in network.named_children())]:
        own = [p for p in parameters if p.requires_grad and p not in seen]
        seen.update(own)
        if own:
            found[name] = own
    if not found:
        raise ValueError(f"{type(network).__name__} has no trainable parameter")
    return found


@torch.no_grad()
def stage_norms(tensors: Mapping[str, Sequence[Tensor]], order: float = 2.0) -> dict[str, Tensor]:
    """L1 or L2 norm (`order` 1 or 2) of all numbers of each stage together, as device tensors; 0 for no tensors."""
    # One fused kernel for all tensors of the network instead of one for each: this runs while training.
    every = [tensor for stage in tensors.values() for tensor in stage]
    norms = [norm.float() for norm in torch._foreach_norm(every, order)] if every else [torch.zeros(())]
    parts = torch.split(torch.stack(norms), [*map(len, tensors.values()), *([] if every else [1])])
    return {name: torch.linalg.vector_norm(part, order) for name, part in zip(tensors, parts, strict=False)}


def gradients(stages: Stages) -> dict[str, list[Tensor]]:
    """The gradients that each stage has; a parameter without one is left out, as its gradient is zero."""
    return {name: [p.grad for p in parameters if p.grad is not None] for name, parameters in stages.items()}
