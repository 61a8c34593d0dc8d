"""Gradient norms, stage by stage: where along the network the signal of the loss fades or grows."""

from __future__ import annotations

import math
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
def gradient_norms(stages: Stages) -> dict[str, Tensor]:
    """L2 norm of each stage's gradient, and the gradient of the first stage relative to the last.

    Device tensors; nothing waits for the device. A parameter without gradient counts as zero gradient.

    Returns
    -------
    dict
        ``grad/norm/<stage>``, and ``grad/vanishing``: root-mean-square gradient of the first stage over that
        of the last, below 1 where the gradient fades on its way back. 1 for a single stage; infinite, or not
        a number, if the last stage has no gradient.
    """
    gradients = [[p.grad for p in parameters if p.grad is not None] for parameters in stages.values()]
    # One fused kernel for all tensors of the network instead of one for each: this runs at every step.
    every = [gradient for stage in gradients for gradient in stage]
    norms = iter(torch._foreach_norm(every)) if every else iter(())
    device = next(iter(stages.values()))[0].device
    result: dict[str, Tensor] = {}
    for name, stage in zip(stages, gradients, strict=True):
        parts = [next(norms).float() for _ in stage]
        total = torch.linalg.vector_norm(torch.stack(parts)) if parts else torch.zeros((), device=device)
        result[f"grad/norm/{name}"] = total
    names = list(stages)
    first, last = names[0], names[-1]
    sizes = {name: sum(p.numel() for p in stages[name]) for name in (first, last)}
    ratio = result[f"grad/norm/{first}"] / result[f"grad/norm/{last}"]
    result["grad/vanishing"] = ratio * math.sqrt(sizes[last] / sizes[first])
    return result
