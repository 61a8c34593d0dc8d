"""A profile of some steps of a training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SKIPPED_STEPS = 2
"""Steps before the profile: the first one allocates memory, and the profiler needs one to start."""

ROWS = 50
"""The table has at most this many operations."""


class StepProfile:
    """Profiles some steps with `torch.profiler`, and writes a table and a chrome trace.

    Parameters
    ----------
    steps : int
        Number of steps. They begin after the first two steps of this process.
    folder : Path
        ``operations.txt`` and ``trace.json`` are written into this folder.
    device : torch.device
    """

    def __init__(self, steps: int, folder: Path, device: torch.device) -> None:
        from torch.profiler import ProfilerActivity, profile, schedule

        # The library of the profiler writes two lines into the terminal at any lower level.
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")

        activities = [ProfilerActivity.CPU]
        self._sort_by = "self_cpu_time_total"
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
            self._sort_by = "self_device_time_total"
        self._folder = folder
        self._profile = profile(
            activities=activities,
            schedule=schedule(wait=SKIPPED_STEPS - 1, warmup=1, active=steps, repeat=1),
            on_trace_ready=self._write,
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Profile the steps inside this block."""
        with self._profile:
            yield

    def after_step(self, step: int) -> Mapping[str, Tensor]:
        """Tell the profiler that a step has ended. There is no metric."""
        self._profile.step()
        return {}

    def _write(self, profile: Any) -> None:
        """Write the table and the trace."""
        self._folder.mkdir(parents=True, exist_ok=True)
        table = profile.key_averages().table(sort_by=self._sort_by, row_limit=ROWS)
        (self._folder / "operations.txt").write_text(table)
        profile.export_chrome_trace(str(self._folder / "trace.json"))
