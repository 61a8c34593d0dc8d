"""The time between two checkpoints."""

from __future__ import annotations

import time


class Clock:
    """Tells whether a checkpoint is due.

    Parameters
    ----------
    minutes : float or None
        Time from one checkpoint to the next one. None: never.
    """

    def __init__(self, minutes: float | None) -> None:
        self._seconds = None if minutes is None else 60.0 * minutes
        self.restart()

    def restart(self) -> None:
        """Begin to count anew, after a checkpoint."""
        self._start = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the time has passed since the last checkpoint."""
        return self._seconds is not None and time.monotonic() - self._start >= self._seconds
