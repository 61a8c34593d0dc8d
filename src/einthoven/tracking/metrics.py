"""The metrics of a run: kept on the device, written to the folder of the run, and sent to the store as means."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from einthoven.interrupts import deferred
from einthoven.tracking.names import accepted
from einthoven.tracking.run_folder import explain_full_disk
from einthoven.tracking.series import Means, Point, SeriesFile
from einthoven.tracking.spool import Spool
from einthoven.tracking.system import SystemMetrics

POINTS = 5000
"""The store gets at most this many points of a metric that is logged at every step."""

_METRICS_PER_ENTRY = 1000

# The same few names are logged at every step.
_accepted = cache(accepted)


class Metrics:
    """The part of a `Recorder` that logs metrics.

    `log_metrics` only buffers values. Device tensors stay on the device until `flush` moves all of them at once.

    Parameters
    ----------
    folder : Path
        Folder of the run. Every value is in its ``tracking/series.bin``.
    entries : Spool
        The spool that sends the means.
    steps : int
        Planned number of steps. If it is larger than `POINTS`, series are thinned (`Means`).
    interval : int
        Number of logged steps between two flushes.
    system : SystemMetrics or None
        Samples the load and memory of the machine.

    Attributes
    ----------
    latest : dict of str to float
        Last value of each metric.
    history : dict of str to (list of int, list of float)
        Steps and values of each metric, as sent to the store.
    observe : callable or None
        It is called with the points of each flush, which are on the host then.
    """

    def __init__(self, folder: Path, entries: Spool, steps: int, interval: int, system: SystemMetrics | None) -> None:
        self.interval = interval
        self.latest: dict[str, float] = {}
        self.history: dict[str, tuple[list[int], list[float]]] = {}
        self.observe: Callable[[Sequence[Point]], None] | None = None
        self._run_folder = folder
        self._entries = entries
        self._series = SeriesFile(folder / "tracking")
        self._means = Means(steps, POINTS)
        self._system = system
        # Logged steps that were not flushed: step, time in ms, values.
        self._buffer: list[tuple[int, int, dict[str, Tensor | float]]] = []
        self._last_step = 0
        # The last point of each metric that was put into the spool.
        self._last_points: dict[str, Point] = {}
        # Step -> points of the validation metrics. A checkpoint of that step is logged with them.
        self._validation_points: dict[int, list[Point]] = {}
        # Last step of each metric that was written before this run was continued.
        self._earlier_steps: dict[str, int] = {}

    @property
    def position(self) -> int:
        """Number of values that have been written. A checkpoint contains it, so that a resumed run goes back to it."""
        self._series.sync()
        return len(self._series)

    def log_metrics(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        """Log metrics of a step. Tensors must be scalars. Nothing waits for the device."""
        if values:
            self._buffer.append((step, int(time.time() * 1000), dict(values)))
        if len(self._buffer) >= self.interval:
            self.flush()

    def flush(self, *, everything: bool = False) -> None:
        """Move the buffered values to the host in one transfer, and write them to the folder of the run.

        With `everything`, also write the means of intervals that have not ended. Use it at the end of a training.
        """
        points = self._take_buffer()
        # Samples of the machine have times of their own. They get the step of this flush.
        if self._system is not None:
            for time_ms, values in self._system.take():
                points += [Point(name, value, time_ms, self._last_step) for name, value in values.items()]

        # A signal must not leave a part of this written: the run may be continued from here.
        with deferred(), explain_full_disk(self._run_folder):
            # On disk: every value once. A continued run measures the steps before it a second time.
            new_points = [point for point in points if point.step > self._earlier_steps.get(point.metric, -1)]
            self._series.append(new_points)
            for point in points:
                self.latest[point.metric] = point.value
                # A resumed run repeats steps that the store has already.
                last_point = self._last_points.get(point.metric)
                if last_point is None or point.step > last_point.step:
                    self._means.add(point)

            # To the store: the means.
            means = self._means.take(self._last_step, everything=everything)
            for first in range(0, len(means), _METRICS_PER_ENTRY):
                self._entries.put({"metrics": means[first : first + _METRICS_PER_ENTRY]})
            for point in means:
                self._remember(point)
        if self.observe is not None:
            self.observe(points)

    def _take_buffer(self) -> list[Point]:
        """Empty the buffer, and return its values in the order in which they were logged."""
        tensors = []
        for _, _, values in self._buffer:
            tensors += [value.detach().float() for value in values.values() if isinstance(value, Tensor)]
        # Device-to-host sync: once per flush.
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])
        points = []
        for step, time_ms, values in self._buffer:
            for name, value in values.items():
                number = next(numbers) if isinstance(value, Tensor) else float(value)
                points.append(Point(_accepted(name), number, time_ms, step))
        if self._buffer:
            self._last_step = self._buffer[-1][0]
        self._buffer.clear()
        return points

    def _remember(self, point: Point) -> None:
        """Add a point that was put into the spool to the history."""
        steps, values = self.history.setdefault(point.metric, ([], []))
        steps.append(point.step)
        values.append(point.value)
        self._last_points[point.metric] = point
        if point.metric.startswith("val/"):
            self._validation_points.setdefault(point.step, []).append(point)
