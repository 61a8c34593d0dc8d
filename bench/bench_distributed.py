"""Training with two processes against training with one: python bench/bench_distributed.py.

The columns are the largest relative difference of the loss and of the gradient norm, and whether the two processes end
with the same weights. In float32, the difference of the first step is one of rounding, and training makes it grow from
step to step. Two columns show that this is so: the same training in float64, and the difference between two trainings
with one process whose first weights differ by one unit in the last place. The processes send their messages with gloo.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from einthoven.contracts import ONE_PROCESS, Processes
from einthoven.runs.network_run import NetworkRun
from einthoven.terminal.conf_folders import conf_folder
from einthoven.terminal.display import console
from einthoven.training.distributed import ConnectedProcesses

PROCESSES = 2
RECORDS = 150
SMALL = ("model.channels=[16,32,32]",)
DTYPES = (torch.float64, torch.float32)

Result = tuple[Tensor, Tensor]

COMBINATIONS = {
    "batch norm": SMALL,
    "batch norm, SGD": (*SMALL, "optimizer=sgd"),
    "layer norm": (*SMALL, "model.norm=layer"),
    "batches of 25": (*SMALL, "trainer.batch_size=25"),
    "micro-batches": (*SMALL, "trainer.micro_batch=8"),
    "mixup": (*SMALL, "augment=mixup"),
    "SAM": (*SMALL, "optimizer=sam"),
    "SAM, mixup, micro-batches": (*SMALL, "optimizer=sam", "augment=mixup", "trainer.micro_batch=8"),
    "layer norm, SAM, mixup, micro-batches": (
        *SMALL,
        "model.norm=layer",
        "optimizer=sam",
        "augment=mixup",
        "trainer.micro_batch=8",
    ),
}


class Steps:
    """Keeps loss and gradient norm of each step, in place of a recorder."""

    run_id = ""
    position = 0

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self.history: dict[str, tuple[list[int], list[float]]] = {}
        self.values: list[list[float]] = []

    def log_metrics(self, step: int, metrics: Mapping[str, Tensor | float]) -> None:
        """Keep the values of a training step."""
        if "watch/grad/norm" in metrics:
            self.values.append([float(metrics["train/loss"]), float(metrics["watch/grad/norm"])])

    def flush(self) -> None:
        """Write nothing."""


def train(
    overrides: tuple[str, ...],
    folder: Path,
    steps: int,
    processes: Processes,
    dtype: torch.dtype,
    *,
    is_moved: bool = False,
) -> Result:
    """Train a run. Return loss and gradient norm of each step (steps, 2), and the last weights.

    `is_moved` makes each weight the next larger number before the first step.
    """
    names = [f"data.cache={folder}/cache", "tracking.experiment=bench", "tracking.run_name=bench"]
    sizes = [f"data.records={RECORDS}", "trainer.epochs=1000", "trainer.device=cpu"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", [*names, *sizes, *overrides])
    run = NetworkRun(config, folder / f"run{processes.rank}", processes=processes)
    run.settings.trainer.epochs = -(-steps // run.steps_per_epoch)
    run.save = lambda name, recorder: None  # type: ignore[method-assign]
    run.model.to(dtype)
    if is_moved:
        with torch.no_grad():
            for weight in run.model.parameters():
                weight.copy_(torch.nextafter(weight, torch.full_like(weight, torch.inf)))
    recorder = Steps()
    with run.training(recorder) as fit:  # type: ignore[arg-type]
        fit()
    weights = torch.cat([p.detach().flatten() for p in run.model.parameters()])
    return torch.tensor(recorder.values[:steps], dtype=torch.float64), weights


def train_all(folder: Path, steps: int, processes: Processes) -> list[Result]:
    """Train each combination in each data type."""
    torch.set_num_threads(1)
    console.quiet = True
    return [
        train(overrides, folder, steps, processes, dtype) for overrides in COMBINATIONS.values() for dtype in DTYPES
    ]


def train_as_one_of_several(rank: int, folder: Path, steps: int) -> None:
    """Do the same in one of the processes, and write the results to a file."""
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    torch.save(train_all(folder, steps, ConnectedProcesses(rank, PROCESSES)), folder / f"{rank}.pt")
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    steps = parser.parse_args().steps
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = train_all(folder, steps, ONE_PROCESS)
        moved = [
            train(overrides, folder, steps, ONE_PROCESS, torch.float32, is_moved=True)
            for overrides in COMBINATIONS.values()
        ]
        spawn(train_as_one_of_several, (folder, steps), nprocs=PROCESSES)  # type: ignore[no-untyped-call]
        first, second = (torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES))

    print(f"{PROCESSES} processes against one: largest relative difference over {steps} steps")
    headings = ("float64", "float32", "float32, step 1", "one process, moved")
    print(f"{'':40} {' '.join(f'{heading:^19}' for heading in headings)} {'weights of the':^14}")
    pair = f" {'loss':>9} {'gradient':>9}"
    print(f"{'':40}{len(headings) * pair} {'processes':^14}")
    for number, title in enumerate(COMBINATIONS):
        line = f"{title:40}"
        # The data types of a combination stand one after the other.
        place = number * len(DTYPES)
        differences = []
        for (values, _), (expected, _) in zip(first[place:], alone[place : place + len(DTYPES)], strict=False):
            differences.append((values - expected).abs() / expected.abs())
        double, single = differences
        expected = alone[place + DTYPES.index(torch.float32)][0]
        by_moving = (moved[number][0] - expected).abs() / expected.abs()
        for difference in (double, single, single[:1], by_moving):
            loss, gradient = difference.amax(dim=0).tolist()
            line += f" {loss:9.1e} {gradient:9.1e}"
        is_equal = all(torch.equal(first[place + k][1], second[place + k][1]) for k in range(len(DTYPES)))
        print(f"{line} {'equal' if is_equal else 'different':^14}")


if __name__ == "__main__":
    main()
