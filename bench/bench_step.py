"""Where the processor time of a training step of the default recipe goes, by part.

    python bench/bench_step.py [--epochs N] [OPTION=VALUE ...]

The run trains on generated records, with one thread. Each function of the step is timed with the processor time of
the thread, and its share of the sum is printed. The clock itself takes less than a microsecond for each call.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from einthoven.runs.network_run import NetworkRun
from einthoven.runs.unrecorded import Unrecorded
from einthoven.terminal.conf_folders import conf_folder
from einthoven.training import step as step_module


class Parts:
    """Processor time by part. A part inside of another one is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            before = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                whole = time.thread_time() - before
                own = whole - self._inner.pop()
                self._inner[-1] += whole
                self.seconds[name] = self.seconds.get(name, 0.0) + own

        return wrapped


def assembled(folder: Path, overrides: list[str]) -> NetworkRun:
    overrides = [*overrides, "tracking.artifacts=false", "trainer.epochs=1"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    run = NetworkRun(config, folder)
    run.save = lambda name, recorder: None  # type: ignore[method-assign]
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    # The backward pass runs in the thread of the caller.
    torch.set_num_threads(1)
    parts = Parts()
    with tempfile.TemporaryDirectory() as folder:
        run = assembled(Path(folder), options.overrides)
        run.augment = parts.timed("augmentation", run.augment)
        run.model.forward = parts.timed("forward pass", run.model.forward)  # type: ignore[method-assign]
        # The task is frozen.
        object.__setattr__(run.task, "loss", parts.timed("loss", run.task.loss))
        run.optimizer.step = parts.timed("optimizer", run.optimizer.step)  # type: ignore[method-assign]
        for name in ("before_update", "after_update"):
            setattr(run.diagnose, name, parts.timed("diagnostics", getattr(run.diagnose, name)))
        guard = step_module.Guard
        patches = [
            mock.patch.object(guard, name, parts.timed("guard", getattr(guard, name)))
            for name in ("remember", "hold", "restore")
        ]
        patches.append(mock.patch("torch.Tensor.backward", parts.timed("backward pass", torch.Tensor.backward)))
        clip = parts.timed("clipping of the gradient", torch.nn.utils.clip_grad_norm_)
        patches.append(mock.patch("torch.nn.utils.clip_grad_norm_", clip))
        for patch in patches:
            patch.start()
        for epoch in range(options.epochs + 1):
            run.settings.trainer.epochs = epoch + 1
            with run.training(Unrecorded()) as fit, mock.patch.object(run, "_validate", dict):
                fit()
            # The first epoch warms up.
            if epoch == 0:
                parts.seconds.clear()
        steps = options.epochs * run.steps_per_epoch
    total = sum(parts.seconds.values())
    print(f"{steps} steps, {1000 * total / steps:.0f} ms of processor time each")
    for name, seconds in sorted(parts.seconds.items(), key=lambda item: -item[1]):
        print(f"{name:<26}{100 * seconds / total:>6.1f} %")


if __name__ == "__main__":
    main()
