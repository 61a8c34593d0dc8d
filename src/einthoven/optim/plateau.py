"""A schedule that follows the validation metric. It is the only schedule with a state."""

from __future__ import annotations

import math
from typing import Any

from einthoven.errors import UserError
from einthoven.optim.schedules import warmed


class Plateau:
    """Multiply the learning rate by `factor` each time the validation metric has stopped improving.

    Its value depends on the metrics so far. A checkpoint holds its `state_dict`, so a resumed run is exact.

    Parameters
    ----------
    warmup : float
        Fraction of all steps in which the multiplier rises in a straight line to 1, in [0, 1).
    factor : float
        Multiplier of each reduction, in (0, 1).
    patience : int
        Evaluations without improvement before a reduction: the next one reduces.
    threshold : float
        The metric is better if it exceeds its best value by more than this.
    floor : float
        Smallest multiplier, in [0, 1].
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
        self._warmup = warmup
        self._factor = factor
        self._patience = patience
        self._threshold = threshold
        self._floor = floor

        # The state: multiplier, best metric, evaluations since the best metric or the last reduction.
        self._multiplier = 1.0
        self._best = -math.inf
        self._waited = 0

    def __call__(self, step: int, total_steps: int) -> float:
        """Return the multiplier at a step."""
        return warmed(step, total_steps, self._warmup, lambda progress: self._multiplier)

    def observe(self, metric: float) -> None:
        """Update the multiplier with the metric of one evaluation. Larger is better, and NaN is no improvement."""
        if metric > self._best + self._threshold:
            self._best = metric
            self._waited = 0
            return
        self._waited += 1
        if self._waited > self._patience:
            self._multiplier = max(self._multiplier * self._factor, self._floor)
            self._waited = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"multiplier": self._multiplier, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the result of `state_dict`."""
        self._multiplier = state["multiplier"]
        self._best = state["best"]
        self._waited = state["waited"]
