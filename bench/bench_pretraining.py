"""Training speed of the pretraining tasks beside classification, in records per second.

    python bench/bench_pretraining.py [--rounds N] [--steps N] [--device cpu|cuda] [OPTION ...]

The default model is trained on generated records in batches of 32, for a few steps of each task in turn, so that
whatever else the machine does meets all tasks alike. The median over the rounds is printed. Diagnostics and validation
are left out. Further options change all runs, such as model=xresnet1d18.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from einthoven.contracts import Batch
from einthoven.data.store.batches import mix, training_batches
from einthoven.runs.network_run import NetworkRun
from einthoven.terminal.conf_folders import conf_folder
from einthoven.training.guard import Guard
from einthoven.training.step import train_step

TASKS = ("superdiagnostic", "contrastive", "cpc", "masked", "vae", "generator")


def assembled(task: str, folder: Path, device: str, options: list[str]) -> NetworkRun:
    overrides = [f"task={task}", f"trainer.device={device}", "diagnostics=none", *options]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return NetworkRun(config, folder / task)


def batches(run: NetworkRun) -> Iterator[Batch]:
    """Yield the batches of one epoch after the other."""
    for epoch in count():
        yield from training_batches(
            run.data.splits["train"], size=run.batch_size, window=run.window, seed=run.settings.seed, epoch=epoch
        )


def train(run: NetworkRun, guard: Guard, some: Iterator[Batch], steps: int) -> float:
    """Take some steps, and return the seconds that they took."""
    generator = torch.Generator(run.device)
    run.model.train()
    if run.device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for step, batch in enumerate(islice(some, steps)):
        generator.manual_seed(mix(run.settings.seed, 0, step))
        train_step(
            run.model,
            run.task,
            batch,
            run.optimizer,
            augment=run.augment,
            generator=generator,
            autocast=run.autocast,
            clip_norm=1.0,
            penalty=run.penalty,
            guard=guard,
        )
    if run.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    arguments, options = parser.parse_known_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = {task: assembled(task, Path(folder), arguments.device, options) for task in TASKS}
        guards = {task: Guard(run.model) for task, run in runs.items()}
        streams = {task: batches(run) for task, run in runs.items()}
        seconds: dict[str, list[float]] = {task: [] for task in TASKS}
        for task in TASKS:
            # The first steps allocate memory.
            train(runs[task], guards[task], streams[task], 3)
        for number in range(arguments.rounds):
            start = number % len(TASKS)
            for task in TASKS[start:] + TASKS[:start]:
                seconds[task].append(train(runs[task], guards[task], streams[task], arguments.steps))

    records = arguments.steps * runs[TASKS[0]].batch_size
    first = statistics.median(seconds[TASKS[0]])
    print(f"{'task':16} records/s  of classification  parameters")
    for task in TASKS:
        median = statistics.median(seconds[task])
        weights = sum(p.numel() for p in runs[task].model.parameters() if p.requires_grad)
        print(f"{task:16} {records / median:9.0f}  {first / median:17.2f}  {weights:10,}")


if __name__ == "__main__":
    main()
