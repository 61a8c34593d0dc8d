"""What a step does to the weights, beside how large they are."""

from __future__ import annotations

import torch
from torch import Tensor

from einthoven.diagnostics.stages import Stages, stage_norms


class Updates:
    """Size of a step, stage by stage, whatever the optimizer, its decay and a penalty made of the gradient.

    ``watch/update/norm/<stage>`` = ‖Δw‖₂, and ``watch/update/ratio/<stage>`` = ‖Δw‖₂ / ‖w‖₂ with w as it was before
    the step. Infinite, or not a number, where all weights of a stage were zero. A copy of the weights is kept during a
    step that is measured, and no longer.
    """

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._before: dict[str, list[Tensor]] | None = None

    def before(self) -> None:
        """Keep the weights that the step will change."""
        self._before = {name: [p.detach().clone() for p in stage] for name, stage in self._stages.items()}

    @torch.no_grad()
    def after(self) -> dict[str, Tensor]:
        """Compare; empty if nothing was kept."""
        kept, self._before = self._before, None
        if kept is None:
            return {}
        steps = {name: torch._foreach_sub(list(stage), kept[name]) for name, stage in self._stages.items()}
        norms, sizes = stage_norms(steps), stage_norms(kept)
        told = {f"watch/update/norm/{name}": norm for name, norm in norms.items()}
        return told | {f"watch/update/ratio/{name}": norms[name] / sizes[name] for name in norms}
