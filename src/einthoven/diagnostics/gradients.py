"""Gradients of a step: norms per stage, entries that are not finite, clipping, angle to the previous step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from einthoven.diagnostics.stages import Stages, gradients, stage_norms, trained


def gradient_norms(stages: Stages) -> dict[str, Tensor]:
    """Return the L2 norm of the gradient of each stage, and the gradient of the first stage relative to the last.

    The values are device tensors, and nothing waits for the device. A parameter without gradient counts as zero. A
    stage that is frozen is left out.

    Returns
    -------
    dict
        ``watch/grad/norm/<stage>``, and ``watch/grad/vanishing``: the root-mean-square gradient of the first stage
        divided by that of the last. It is below 1 if the gradient becomes smaller on its way back, and 1 for a single
        stage. It is infinite, or not a number, if the last stage has no gradient. It is left out if one of the two is
        frozen.
    """
    norms = stage_norms(gradients(trained(stages)))
    metrics = {f"watch/grad/norm/{name}": norm for name, norm in norms.items()}
    names = list(stages)
    first, last = names[0], names[-1]
    if first not in norms or last not in norms:
        return metrics
    first_size = sum(p.numel() for p in stages[first])
    last_size = sum(p.numel() for p in stages[last])

    # ‖g‖₂ / √n is the root mean square. Without √n, a larger stage would have a larger value.
    vanishing = norms[first] / norms[last] * math.sqrt(last_size / first_size)
    metrics["watch/grad/vanishing"] = vanishing
    return metrics


def gradient_norms_l1(stages: Stages) -> dict[str, Tensor]:
    """Return ``watch/grad/norm_l1/<stage>``: the sum of the magnitudes of the gradient of each stage.

    Divided by the L2 norm, it measures how evenly the gradient is spread: 1 if a single weight has the whole gradient,
    √n if all n weights have equal parts. A stage that is frozen is left out.
    """
    norms = stage_norms(gradients(trained(stages)), 1.0)
    return {f"watch/grad/norm_l1/{name}": norm for name, norm in norms.items()}


@torch.no_grad()
def nonfinite(stages: Stages) -> Tensor:
    """Return ``watch/grad/nonfinite``: the number of gradient entries that are infinite or not a number."""
    return (~_flat_gradient(stages).isfinite()).sum()


def clipping(norm: Tensor, limit: float) -> dict[str, Tensor]:
    """Return whether clipping by the global norm shortened a gradient, and its norm afterwards.

    Parameters
    ----------
    norm
        Norm before clipping, as `torch.nn.utils.clip_grad_norm_` returns it.
    limit
        The largest norm allowed; infinite for no clipping.

    Returns
    -------
    dict
        ``watch/grad/clipped``: 1 if the norm was above the limit, otherwise 0; its mean over steps is the share of
        clipped steps. ``watch/grad/norm_clipped``: the norm after clipping.
    """
    return {"watch/grad/clipped": (norm > limit).float(), "watch/grad/norm_clipped": norm.clamp(max=limit)}


class GradientCosine:
    """``watch/grad/cosine``: cosine of the angle between the gradients of two successive steps, before clipping.

    Above 0, successive steps go in similar directions, and a larger learning rate would make faster progress. Near 0,
    the gradients are mostly noise. Below 0, the weights jump from one side of a valley to the other. The gradient is
    copied only before a step that is due.

    Parameters
    ----------
    stages
        Parameters of each stage.
    interval : int or None
        Number of steps from one measurement to the next; None turns it off.
    """

    def __init__(self, stages: Stages, interval: int | None) -> None:
        self._stages = stages
        self._interval = interval
        self._previous: Tensor | None = None

    @torch.no_grad()
    def update(self, step: int) -> dict[str, Tensor]:
        """Read the gradient of a step (counted from 0); call it in every step. Empty if the step is not due."""
        if self._interval is None:
            return {}
        previous = self._previous
        self._previous = None
        is_next_due = (step + 1) % self._interval == 0
        if previous is None and not is_next_due:
            return {}

        current = _flat_gradient(self._stages)
        if is_next_due:
            self._previous = current
        if previous is None:
            return {}
        return {"watch/grad/cosine": torch.cosine_similarity(previous, current, dim=0)}

    def state_dict(self) -> dict[str, Tensor | None]:
        """Return the state that a resumed run needs."""
        return {"previous": self._previous}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        """Continue from a `state_dict`."""
        device = next(iter(self._stages.values()))[0].device
        self._previous = None if state["previous"] is None else state["previous"].to(device)


def _flat_gradient(stages: Stages) -> Tensor:
    """Return the whole gradient as one vector, with zeros for a parameter without gradient."""
    parts = []
    for parameters in stages.values():
        for p in parameters:
            gradient = torch.zeros_like(p) if p.grad is None else p.grad
            parts.append(gradient.flatten())
    return torch.cat(parts)
