"""Gradients of a step: how large along the network, whether they are numbers, how they turn, how they are clipped."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from einthoven.diagnostics.stages import Stages, gradients, stage_norms


def gradient_norms(stages: Stages) -> dict[str, Tensor]:
    """L2 norm of each stage's gradient, and the gradient of the first stage relative to the last.

    Device tensors; nothing waits for the device. A parameter without gradient counts as zero gradient.

    Returns
    -------
    dict
        ``watch/grad/norm/<stage>``, and ``watch/grad/vanishing``: root-mean-square gradient of the first stage over
        that of the last, below 1 where the gradient fades on its way back. 1 for a single stage; infinite, or not
        a number, if the last stage has no gradient.
    """
    norms = stage_norms(gradients(stages))
    first, *_, last = names if len(names := list(stages)) > 1 else names * 2
    sizes = {name: sum(p.numel() for p in stages[name]) for name in (first, last)}
    vanishing = norms[first] / norms[last] * math.sqrt(sizes[last] / sizes[first])
    return {f"watch/grad/norm/{name}": norm for name, norm in norms.items()} | {"watch/grad/vanishing": vanishing}


def gradient_norms_l1(stages: Stages) -> dict[str, Tensor]:
    """``watch/grad/norm_l1/<stage>``: sum of the magnitudes of each stage's gradient.

    Over the L2 norm, it tells how evenly the gradient is spread: 1 where a single weight has all of it, √n where all n
    weights have the same.
    """
    return {f"watch/grad/norm_l1/{name}": norm for name, norm in stage_norms(gradients(stages), 1.0).items()}


@torch.no_grad()
def nonfinite(stages: Stages) -> Tensor:
    """``watch/grad/nonfinite``: how many entries of the gradient are infinite or not a number."""
    return (~flat_gradient(stages).isfinite()).sum()


def clipping(norm: Tensor, limit: float) -> dict[str, Tensor]:
    """What clipping by the global norm did to a gradient of norm `norm`.

    Parameters
    ----------
    norm
        Before clipping, as `torch.nn.utils.clip_grad_norm_` returns it.
    limit
        The largest norm allowed; infinite for none.

    Returns
    -------
    dict
        ``watch/grad/clipped``: 1 where the gradient was longer than the limit, otherwise 0, so its mean over steps is
        the share of steps that were clipped; ``watch/grad/norm_clipped``: its norm after clipping.
    """
    return {"watch/grad/clipped": (norm > limit).float(), "watch/grad/norm_clipped": norm.clamp(max=limit)}


class GradientCosine:
    """``watch/grad/cosine``: cosine of the angle between the gradients of two successive steps, before clipping.

    Above 0, the steps agree, and a larger learning rate would reach further; around 0, noise rules; below 0, the
    iterate jumps from one wall of a valley to the other. A copy of the gradient is kept only where the next step is
    due.

    Parameters
    ----------
    stages
        Parameters.
    every : int or None
        Steps between two measurements; None: never.
    """

    def __init__(self, stages: Stages, every: int | None) -> None:
        self._stages, self._every = stages, every
        self._previous: Tensor | None = None

    @torch.no_grad()
    def update(self, step: int) -> dict[str, Tensor]:
        """Take in the gradient of a step (counted from 0), at every step; empty where none is due."""
        if self._every is None:
            return {}
        previous, self._previous, told = self._previous, None, {}
        now = flat_gradient(self._stages) if previous is not None or (step + 1) % self._every == 0 else None
        if previous is not None and now is not None:
            told["watch/grad/cosine"] = torch.cosine_similarity(previous, now, dim=0)
        if (step + 1) % self._every == 0:
            self._previous = now
        return told

    def state_dict(self) -> dict[str, Tensor | None]:
        """What a resumed run needs."""
        return {"previous": self._previous}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Continue from `state_dict`."""
        device = next(iter(self._stages.values()))[0].device
        self._previous = None if state["previous"] is None else state["previous"].to(device)


def flat_gradient(stages: Stages) -> Tensor:
    """The whole gradient as one vector, zero where a parameter has none."""
    every = [p for parameters in stages.values() for p in parameters]
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in every])
