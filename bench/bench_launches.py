"""Operators of a training step, and the time that a GPU would need for its arithmetic and for its launches.

    python bench/bench_launches.py [OPTION=VALUE ...]

Counts the calls of operators that compute something (views are free) in one step of a run on embedded records, by part
of the step, and the operations of its forward and backward pass. The step is that of a GPU: the guard decides on the
device. No GPU is needed: what the table says of a GPU is arithmetic, with the peak and the time of a launch that are
given at the top of this file.

- `eager`: all calls.
- `compiled`: a forward and backward pass has as many calls as it has convolutions, products and attentions, because
  torch.compile merges only the calls between them. This is the most that it can save.
- `captured`: forward and backward pass are one launch, as with a captured CUDA graph. The rest is as before.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from bench_pretraining import assembled, batches
from torch.utils._python_dispatch import TorchDispatchMode

from einthoven.models.convolution import TimeConvolution
from einthoven.runs.network.step_cost import first_batch
from einthoven.runs.network_run import NetworkRun
from einthoven.training import step as step_module
from einthoven.training.guard import Guard
from einthoven.training.meter import count_flops
from einthoven.training.step import train_step

LAUNCH_US = 5.0  # from the call in Python to the start of a kernel, for short kernels in a row
PEAK_TFLOPS = 50.0  # float32 of a large GPU; tensor cores in bf16 reach ten times as much
BATCH_SIZES = (32, 128, 512, 2048)


LARGE = ("convolution", "mm", "bmm", "baddbmm", "addmm", "scaled_dot_product", "linear")  # starts of their names
AUGMENTATION = "augmentation"
PASSES = "forward and backward pass"
REST = "optimizer, clipping, guard"


class Calls(TorchDispatchMode):
    """Counts the calls of operators that compute something, by part of the step."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.large = 0
        self._part = REST

    def inside(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls of operators belong to a part of the step."""

        def wrapped(*arguments: Any, **options: Any) -> Any:
            self._part = part
            try:
                return function(*arguments, **options)
            finally:
                self._part = REST

        return wrapped

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in function._schema.returns)
        self.counts[self._part] += not is_view
        name = function.overloadpacket.__name__.lstrip("_")
        self.large += self._part == PASSES and name.startswith(LARGE)
        return function(*args, **(kwargs or {}))


def on_gpu() -> AbstractContextManager[object]:
    """Return a context with the operators of a GPU. Only a CPU computes gradients of convolutions by products."""
    return mock.patch.object(TimeConvolution, "_uses_products", lambda *_: False)


def count_calls(run: NetworkRun) -> Calls:
    """Count the calls of operators in a training step of a run, as a GPU takes it."""
    some = batches(run)
    options: dict[str, Any] = {
        "augment": run.augment,
        "generator": torch.Generator(),
        "autocast": run.autocast,
        "clip_norm": run.settings.trainer.clip_norm or math.inf,
        "penalty": run.penalty,
        "guard": Guard(run.model, waits=False),
    }
    # The first step makes the state of the optimizer.
    train_step(run.model, run.task, next(some), run.optimizer, **options)
    calls = Calls()
    options["augment"] = calls.inside(AUGMENTATION, run.augment)
    passes = calls.inside(PASSES, step_module.backward)
    with on_gpu(), mock.patch.object(step_module, "backward", passes), calls:
        train_step(run.model, run.task, next(some), run.optimizer, **options)
    return calls


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = assembled("superdiagnostic", Path(folder), "cpu", ["data.records=300", *sys.argv[1:]])
        calls = count_calls(run)
        with on_gpu():
            flops = count_flops(run.model, run.task, first_batch(run, 2), run.autocast) / 2

    name = type(run.model.network).__name__
    for part, count in calls.counts.items():
        print(f"{name}: {count} calls of operators in {part}")
    print(f"{name}: {calls.large} of them are convolutions, products and attentions")
    total = calls.counts.total()
    rest = total - calls.counts[PASSES]
    launches = {"eager": total, "compiled": rest + calls.large, "captured": rest + 1}
    titles = " | ".join(f"{mode}: {count} launches, ms | records/s" for mode, count in launches.items())
    print(f"| batch | GFLOP | arithmetic at {PEAK_TFLOPS:.0f} TFLOP/s, ms | {titles} |")
    print("|" + "---|" * (3 + 2 * len(launches)))
    for size in BATCH_SIZES:
        arithmetic_ms = size * flops / PEAK_TFLOPS / 1e9
        cells = []
        for count in launches.values():
            launches_ms = count * LAUNCH_US / 1000
            records = 1000 * size / max(arithmetic_ms, launches_ms)
            cells.append(f"{launches_ms:.1f} | {records:,.0f}")
        print(f"| {size:,} | {size * flops / 1e9:.1f} | {arithmetic_ms:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
