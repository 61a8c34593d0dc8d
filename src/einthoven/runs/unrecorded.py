"""The recorder of a process that trains with others and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from einthoven.tracking.series import Point


class Unrecorded:
    """The recorder of a process that writes nothing."""

    run_id = ""
    position = 0

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self.history: dict[str, tuple[list[int], list[float]]] = {}
        self.observe: Callable[[Sequence[Point]], None] | None = None

    def log_metrics(self, step: int, metrics: Mapping[str, Tensor | float]) -> None:
        """Record nothing."""

    def flush(self) -> None:
        """Write nothing."""
