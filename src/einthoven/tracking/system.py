"""Load and memory of the machine, sampled by a thread beside the training."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import time
from typing import Any

from einthoven.errors import UserError

INTERVAL = 10.0
"""Seconds between two samples."""


class SystemMetrics:
    """Samples processor, memory and GPU through MLflow's monitors, under the names that its page knows.

    Raises
    ------
    UserError
        If psutil is not installed. Without nvidia-ml-py, or a GPU of its kind, no GPU is told of.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        if importlib.util.find_spec("psutil") is None:
            raise UserError("tracking.system_metrics=true: psutil is not installed; install einthoven[system].")
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        self._monitors: list[Any] = [CPUMonitor()]  # type: ignore[no-untyped-call]
        with contextlib.suppress(ImportError, RuntimeError):  # no driver
            self._monitors.append(GPUMonitor())  # type: ignore[no-untyped-call]
        self._interval = interval
        self._samples: list[tuple[int, dict[str, float]]] = []
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._work, name="tracking-system", daemon=True)
        self._thread.start()

    def take(self) -> list[tuple[int, dict[str, float]]]:
        """Samples since the last call: (ms since 1970, {``system/…``: value})."""
        with self._lock:
            taken, self._samples = self._samples, []
        return taken

    def stop(self) -> None:
        """Take no more samples."""
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(self._interval):
            values: dict[str, float] = {}
            for monitor in self._monitors:
                monitor.clear_metrics()
                monitor.collect_metrics()
                values |= {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
            with self._lock:
                self._samples.append((int(time.time() * 1000), values))
