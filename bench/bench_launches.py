"""Operators of a training step, and the time that a GPU would need for its arithmetic and for its launches.

    python bench/bench_launches.py [OPTION=VALUE ...]

Counts the calls of operators that compute something (views are free) in one step of a run on embedded records, and the
operations of its forward and backward pass. It needs no GPU: what the table says of a GPU is arithmetic, with the peak
and the time of a launch that are given at the top of this file.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from bench_pretraining import assembled, batches
from torch.utils._python_dispatch import TorchDispatchMode

from einthoven.runs.step_cost import first_batch
from einthoven.training.guard import Guard
from einthoven.training.meter import count_flops
from einthoven.training.step import train_step

LAUNCH_US = 5.0  # from the call in Python to the start of a kernel, for short kernels in a row
PEAK_TFLOPS = 50.0  # float32 of a large GPU; tensor cores in bf16 reach ten times as much
BATCH_SIZES = (32, 128, 512, 2048)


class Calls(TorchDispatchMode):
    """Counts the calls of operators that compute something."""

    count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in function._schema.returns)
        self.count += not is_view
        return function(*args, **(kwargs or {}))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = assembled("superdiagnostic", Path(folder), "cpu", ["data.records=300", *sys.argv[1:]])
        some = batches(run)
        guard = Guard(run.model)
        options: dict[str, Any] = {
            "augment": run.augment,
            "generator": torch.Generator(),
            "autocast": run.autocast,
            "clip_norm": run.settings.trainer.clip_norm or math.inf,
            "penalty": run.penalty,
            "guard": guard,
        }
        # The first step makes the state of the optimizer.
        train_step(run.model, run.task, next(some), run.optimizer, **options)
        with Calls() as calls:
            train_step(run.model, run.task, next(some), run.optimizer, **options)
        flops = count_flops(run.model, run.task, first_batch(run, 2), run.autocast) / 2

    launches_ms = calls.count * LAUNCH_US / 1000
    print(
        f"{type(run.model.network).__name__}: {calls.count} calls of operators, {launches_ms:.1f} ms at {LAUNCH_US} us"
    )
    print(f"| batch | GFLOP | arithmetic at {PEAK_TFLOPS:.0f} TFLOP/s, ms | launches, ms | most records/s |")
    print("|---|---|---|---|---|")
    for size in BATCH_SIZES:
        arithmetic_ms = size * flops / PEAK_TFLOPS / 1e9
        records = 1000 * size / max(arithmetic_ms, launches_ms)
        print(f"| {size:,} | {size * flops / 1e9:.1f} | {arithmetic_ms:.2f} | {launches_ms:.1f} | {records:,.0f} |")


if __name__ == "__main__":
    main()
