"""Training steps on a GPU: speed, launches, share of the peak, compiled code, and the time to an AUROC of 0.90.

    bench/gpu.sh [--data-root PTB-XL] [--json FILE] [OPTION=VALUE ...]

Part 1 takes whole training steps (augmentation, forward, backward, guard, clipping, optimizer; no diagnostics) of the
default model, or of the one that the options choose, with the code as it is written (eager) and with
`trainer.compile`. The two take turns, and a line has the median of the rounds.

- `launches`: kernels and copies that the GPU runs in a step, as torch.profiler counts them. `waits`: calls in which the
  host waits for the GPU. More than the one of the profiler in five steps is a mistake in the step.
- `share`: operations of the step per second, over those of a matrix product of 4096x4096 in the same rounds.
- `gain`: records per second, over those of the eager step.

Part 2 trains with the default recipe until the macro AUROC of the validation split reaches 0.90: on the embedded data,
and on PTB-XL if its folder is named. The seconds include evaluations and compiling, and no reading of the data.

The raw values are written as JSON. Without a GPU, the command ends with a sentence. With `--cpu`, the same code runs
on the CPU with tiny sizes: `launches` are then operators, and nothing that it prints is a measurement.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from bench_pretraining import assembled
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from einthoven.contracts import Autocast, Batch
from einthoven.errors import UserError
from einthoven.runs import network_run
from einthoven.runs.network.compiling import training_passes
from einthoven.runs.network.step_cost import first_batch
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.unrecorded import Unrecorded
from einthoven.training.compiled import CompiledPasses
from einthoven.training.guard import Guard
from einthoven.training.meter import count_flops, matmul_rate
from einthoven.training.step import train_step

GPU_SIZES = (32, 64, 128, 256, 512, 1024, 2048)
CPU_SIZES = (4, 8)
CPU_MODEL = ["model=mlp", "model.width=8", "model.depth=1", "trainer.batch_size=16"]
SECONDS_PER_ROUND = 1.0
PROFILED_STEPS = 5
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
MODES = ("eager", "compiled")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--auroc", type=float, default=0.90)
    parser.add_argument("--epochs", type=int, help="most epochs of part 2")
    parser.add_argument("--data-root", type=Path, help="folder of PTB-XL; default: of EINTHOVEN_REAL_DATA")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--json", type=Path, default=Path("outputs/bench_gpu.json"))
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args(arguments)
    if not options.cpu and not torch.cuda.is_available():
        print("bench_gpu: no GPU is here that torch can use; --cpu tries the same code on the CPU with tiny sizes.")
        raise SystemExit(1)

    device = torch.device("cpu" if options.cpu else "cuda")
    name = "CPU, tiny sizes: no measurement" if options.cpu else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}")
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "overrides": options.overrides}
    with tempfile.TemporaryDirectory() as folder:
        results["steps"] = measure_steps(options, device, Path(folder))
        results["training"] = measure_trainings(options, device, Path(folder))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"raw values: {options.json}")


# ---------------------------------------------------------------- part 1: steps


def measure_steps(options: argparse.Namespace, device: torch.device, folder: Path) -> list[dict[str, Any]]:
    """Measure the steps of each batch size, print their table, and return the raw values."""
    small = ["data.records=300", *(CPU_MODEL if options.cpu else [])]
    run = assembled("superdiagnostic", folder, str(device), [*small, *options.overrides])
    flops = count_flops(run.model, run.task, first_batch(run, 2), run.autocast) // 2
    network = type(run.model.network).__name__
    print(f"\n{network}, {run.precision}, {flops / 1e6:.0f} MFLOP for each record")
    print("| batch | mode | records/s | ms | launches | waits | share | gain | MiB | to compile, s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for size in CPU_SIZES if options.cpu else GPU_SIZES:
        try:
            rows += measure_size(run, size, flops, options)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            print(f"| {size:,} | memory ran out | | | | | | | | |", flush=True)
    return rows


def measure_size(run: NetworkRun, size: int, flops: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure eager and compiled steps of a batch size in turn, and print a line for each."""
    batch = made_batch(run, size)
    compiled = CompiledPasses(run.model, "forward", run.autocast, options.backend)
    steps: dict[str, Callable[[], None]] = {
        "eager": step_of(run, batch, run.autocast),
        "compiled": step_of(run, batch, compiled),
    }
    # The first steps make states and caches, and compile.
    first_seconds = {}
    memory = {}
    for mode, step in steps.items():
        if run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        first_seconds[mode] = timed(step, 1, run.device)
        timed(step, 2, run.device)
        memory[mode] = torch.cuda.max_memory_allocated() / 2**20 if run.device.type == "cuda" else math.nan
    rounds = options.rounds or (1 if options.cpu else 7)
    repeats = max(1, round((0.01 if options.cpu else SECONDS_PER_ROUND) / timed(steps["eager"], 1, run.device)))
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    rates = []
    for turn in range(rounds):
        for mode in MODES[:: 1 if turn % 2 else -1]:
            seconds[mode].append(timed(steps[mode], repeats, run.device) / repeats)
        rates.append(matmul_rate(run.device, run.autocast))

    rows = []
    for mode in MODES:
        launches, waits = profiled(steps[mode], run.device)
        shares = [size * flops / took / rate for took, rate in zip(seconds[mode], rates, strict=True)]
        gains = [eager / took for eager, took in zip(seconds["eager"], seconds[mode], strict=True)]
        row = {
            "batch": size,
            "mode": mode,
            "seconds": seconds[mode],
            "matmul_flops_per_second": rates,
            "flops": size * flops,
            "launches": launches,
            "waits": waits,
            "share": statistics.median(shares),
            "gain": statistics.median(gains),
            "peak_mib": None if math.isnan(memory[mode]) else memory[mode],
            "first_step_seconds": first_seconds[mode],
        }
        rows.append(row)
        middle = statistics.median(seconds[mode])
        to_compile = f"{first_seconds[mode]:.0f}" if mode == "compiled" else "-"
        print(
            f"| {size:,} | {mode} | {size / middle:,.0f} | {1000 * middle:.2f} | {launches:.0f} | {waits:.1f} | "
            f"{row['share']:.2f} | {row['gain']:.2f} | {memory[mode]:.0f} | {to_compile} |",
            flush=True,
        )
    return rows


def made_batch(run: NetworkRun, size: int) -> Batch:
    """Return a batch of any size: the training records, again and again."""
    split = run.data.splits["train"]
    rows = torch.arange(size, device=run.device) % len(split)
    valid = torch.ones(size, dtype=torch.bool, device=run.device)
    return Batch(split.take(rows, run.window), split.labels[rows], rows, valid)


def step_of(run: NetworkRun, batch: Batch, passes: Autocast) -> Callable[[], None]:
    """Return a function that takes a training step."""
    guard = Guard(run.model)
    generator = torch.Generator(run.device)
    run.model.train()

    def step() -> None:
        generator.manual_seed(run.settings.seed)
        train_step(
            run.model,
            run.task,
            batch,
            run.optimizer,
            augment=run.augment,
            generator=generator,
            autocast=passes,
            clip_norm=run.settings.trainer.clip_norm or math.inf,
            penalty=run.penalty,
            guard=guard,
        )

    return step


def timed(step: Callable[[], None], repeats: int, device: torch.device) -> float:
    """Return the seconds of some steps."""
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def profiled(step: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Return the kernels (on a CPU: the operators) and the waits of the host of one step."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as recorded:
        for _ in range(PROFILED_STEPS):
            step()
    events = list(recorded.events() or [])
    if device.type == "cuda":
        launches = sum(event.device_type == DeviceType.CUDA for event in events)
    else:
        launches = sum(event.name.startswith("aten::") for event in events)
    waits = sum(event.name in WAITS for event in events)
    return launches / PROFILED_STEPS, waits / PROFILED_STEPS


# ---------------------------------------------------------------- part 2: time to an AUROC


class ReachedError(Exception):
    """The AUROC is reached."""


class Watch(Unrecorded):
    """Stands for the recorder of a run, and ends the training at an AUROC."""

    def __init__(self, goal: float) -> None:
        super().__init__()
        self.goal = goal
        self.aurocs: list[float] = []

    def log_metrics(self, step: int, metrics: Mapping[str, Tensor | float]) -> None:
        if "val/macro_auroc" not in metrics:
            return
        self.aurocs.append(float(metrics["val/macro_auroc"]))
        if self.aurocs[-1] >= self.goal:
            raise ReachedError


def measure_trainings(options: argparse.Namespace, device: torch.device, folder: Path) -> list[dict[str, Any]]:
    """Train to the AUROC on each corpus, print a table, and return the raw values."""
    corpora = {"embedded": ["data.records=60", *CPU_MODEL] if options.cpu else []}
    root = options.data_root
    if root is None and os.environ.get("EINTHOVEN_REAL_DATA") and not options.cpu:
        root = Path(os.environ["EINTHOVEN_REAL_DATA"]) / "ptbxl"
    if root is not None:
        corpora["PTB-XL"] = ["data=ptbxl", f"data.root={root}"]
    epochs = options.epochs or (2 if options.cpu else 100)
    print(f"\n| data | mode | epochs | seconds to {options.auroc:.2f} | best AUROC |")
    print("|---|---|---|---|---|")
    rows = []
    for corpus, overrides in corpora.items():
        for mode in MODES:
            compiling = [f"trainer.compile={str(mode == 'compiled').lower()}", f"trainer.epochs={epochs}"]
            try:
                run = assembled("superdiagnostic", folder, str(device), [*overrides, *compiling, *options.overrides])
            except UserError as error:
                print(f"| {corpus} | {error} | | | |")
                break
            row = train(run, options) | {"data": corpus, "mode": mode}
            rows.append(row)
            reached = f"{row['seconds']:.1f}" if row["is_reached"] else "not reached"
            best = max(row["aurocs"], default=math.nan)
            print(f"| {corpus} | {mode} | {len(row['aurocs'])} | {reached} | {best:.3f} |", flush=True)
    return rows


def train(run: NetworkRun, options: argparse.Namespace) -> dict[str, Any]:
    """Train until the AUROC is reached, or to the end."""
    run.save = lambda name, recorder: None  # type: ignore[method-assign]
    watch = Watch(options.auroc)
    is_reached = False
    wait(run.device)
    start = time.perf_counter()
    passes = partial(training_passes, backend=options.backend)
    try:
        with (
            redirect_stdout(io.StringIO()),
            mock.patch.object(network_run, "training_passes", passes),
            run.training(watch) as fit,
        ):
            fit()
    except ReachedError:
        is_reached = True
    wait(run.device)
    return {"seconds": time.perf_counter() - start, "is_reached": is_reached, "aurocs": watch.aurocs}


if __name__ == "__main__":
    main()
