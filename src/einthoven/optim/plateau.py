"""The schedule that looks at the validation metric, and therefore remembers."""

from __future__ import annotations

import math
from typing import Any

from einthoven.errors import UserError
from einthoven.optim.schedules import warmed


class Plateau:
    """Multiply the learning rate by `factor` whenever the validation metric has stopped improving.

    Unlike the pure schedules, its value depends on what was observed; `state_dict` goes into checkpoints, so a
    resumed run is exact all the same.

    Parameters
    ----------
    warmup : float
        Fraction of all steps that rise in a straight line to 1, in [0, 1).
    factor : float
        Multiplier of each reduction, in (0, 1).
    patience : int
        Evaluations without improvement that are borne before a reduction.
    threshold : float
        By how much the metric must exceed its best to count as better.
    floor : float
        The multiplier is not reduced below this, in [0, 1].
    """

    def __init__(
        self,
        *,
        warmup: float = 0.0,
        factor: float = 0.3,
        patience: int = 3,
        threshold: float = 1e-4,
        floor: float = 1e-4,
    ) -> None:
        if not 0.0 < factor < 1.0:
            raise UserError(f"schedule: factor must lie in (0, 1), found {factor}")
        if patience < 0 or not 0.0 <= threshold < math.inf:
            raise UserError(
                f"schedule: patience and threshold must be numbers of at least 0, found {patience} and {threshold}"
            )
        if not 0.0 <= floor <= 1.0:
            raise UserError(f"schedule: floor must lie between 0 and 1, found {floor}")
        self._warmup, self._factor, self._patience, self._threshold = warmup, factor, patience, threshold
        self._floor = floor
        self._multiplier, self._best, self._waited = 1.0, -math.inf, 0

    def __call__(self, step: int, total_steps: int) -> float:
        """Multiplier at a step: that of the last observation."""
        return warmed(step, total_steps, self._warmup, lambda done: self._multiplier)

    def observe(self, metric: float) -> None:
        """Take notice of the metric of one evaluation; larger is better, and what is not a number is no improvement."""
        if metric > self._best + self._threshold:
            self._best, self._waited = metric, 0
            return
        self._waited += 1
        if self._waited > self._patience:
            self._multiplier, self._waited = max(self._multiplier * self._factor, self._floor), 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"multiplier": self._multiplier, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._multiplier, self._best, self._waited = state["multiplier"], state["best"], state["waited"]
