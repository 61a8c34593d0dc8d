"""Load and memory of the machine, sampled by a thread during the training."""

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
    """Sample processor, memory and GPU with MLflow's monitors, under the names that the page of MLflow uses.

    Without nvidia-ml-py or an NVIDIA GPU, there are no samples of a GPU.

    Parameters
    ----------
    interval : float
        Seconds between two samples.

    Raises
    ------
    UserError
        If psutil is not installed.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        if importlib.util.find_spec("psutil") is None:
            raise UserError("tracking.system_metrics=true: psutil is not installed; install einthoven[system].")
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        self._monitors: list[Any] = [CPUMonitor()]  # type: ignore[no-untyped-call]
        # Without a driver, the constructor fails.
        with contextlib.suppress(ImportError, RuntimeError):
            self._monitors.append(GPUMonitor())  # type: ignore[no-untyped-call]
        self._interval = interval
        self._samples: list[tuple[int, dict[str, float]]] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._sample_until_stop, name="tracking-system", daemon=True)
        self._thread.start()

    def take(self) -> list[tuple[int, dict[str, float]]]:
        """Return and remove the samples since the last call: (ms since 1970, {``system/…``: value})."""
        with self._lock:
            samples = self._samples
            self._samples = []
        return samples

    def stop(self) -> None:
        """Stop sampling."""
        self._stop.set()

    def _sample_until_stop(self) -> None:
        while not self._stop.wait(self._interval):
            values: dict[str, float] = {}
            for monitor in self._monitors:
                monitor.clear_metrics()
                monitor.collect_metrics()
                for name, value in monitor.aggregate_metrics().items():
                    values[f"system/{name}"] = value
            with self._lock:
                self._samples.append((int(time.time() * 1000), values))
