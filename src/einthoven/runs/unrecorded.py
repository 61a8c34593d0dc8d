"""The recorder of a process that trains with others and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


class Unrecorded:
    """The recorder of a process that writes nothing."""

    run_id = ""
    position = 0

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}

    def log_metrics(self, step: int, metrics: Mapping[str, Tensor | float]) -> None:
        """Record nothing."""

    def flush(self) -> None:
        """Write nothing."""
