"""Size of a step relative to the weights."""

from __future__ import annotations

import torch
from torch import Tensor

from einthoven.diagnostics.stages import Stages, stage_norms, trained


class Updates:
    """Size of a step in each stage. It includes everything that changes the weights, such as weight decay.

    ``watch/update/norm/<stage>`` = ‖Δw‖₂, and ``watch/update/ratio/<stage>`` = ‖Δw‖₂ / ‖w‖₂ with the weights w before
    the step. The ratio is infinite, or not a number, if all weights of a stage were zero. A stage that is frozen is
    left out. A copy of the weights exists only during a step that is measured.
    """

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._before: dict[str, list[Tensor]] | None = None

    def copy_weights(self) -> None:
        """Copy the weights before the step changes them."""
        self._before = {name: [p.detach().clone() for p in stage] for name, stage in trained(self._stages).items()}

    @torch.no_grad()
    def measure(self) -> dict[str, Tensor]:
        """Compare the weights with their copy; empty if there is no copy."""
        before = self._before
        self._before = None
        if before is None:
            return {}
        changes = {name: torch._foreach_sub(list(self._stages[name]), weights) for name, weights in before.items()}
        change_norms = stage_norms(changes)
        weight_norms = stage_norms(before)
        norms = {f"watch/update/norm/{name}": norm for name, norm in change_norms.items()}
        ratios = {f"watch/update/ratio/{name}": change_norms[name] / weight_norms[name] for name in change_norms}
        return norms | ratios
