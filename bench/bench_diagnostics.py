"""What the diagnostics and the tracking cost: time of a training with them over that of one without.

    python bench/bench_diagnostics.py [--epochs N]

The default recipe (default model, batches of 32, generated records) is trained three times side by side, epoch by
epoch in turn, so that whatever else the machine does meets all of them alike: with ``diagnostics=none`` and a recorder
that keeps nothing, with the default diagnostics and MLflow in a sqlite file, and with ``diagnostics=full`` likewise.
An epoch ends with its validation in all of them; the checkpoint is left out. Three ratios are printed: of the time on
the clock and of the processor time of all threads, each with over without; and, where a busy machine drowns those, of
one run with itself: all its processor time over that of what is neither measuring nor recording. Claimed are 1.03 for
the default set and 1.25 for the full one. ``--epochs`` should be a multiple of the rarest interval of the full set.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from einthoven.runs.network_run import NetworkRun
from einthoven.runs.start import open_recorder
from einthoven.runs.unrecorded import Unrecorded
from einthoven.terminal.conf_folders import conf_folder
from einthoven.tracking import run_folder

SETTINGS = {"none": 1.0, "default": 1.03, "full": 1.25}


class Inside:
    """Processor time spent inside some functions, and in threads beside the one that trains."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self._depth += 1
            before = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                self._depth -= 1
                self.seconds += (time.thread_time() - before) * (self._depth == 0)

        return wrapped

    def watch(self, run: NetworkRun, recorder: Any) -> None:
        """Time what the default and the full set add to a step and to an epoch."""
        for owner, names in (
            (run.diagnose, ("before_update", "after_update")),
            (run.validation, ("_diagnose_probabilities", "_measure_model")),
            (recorder, ("log_metrics", "flush")),
            *((hooks, ("_save_summary",)) for hooks in run.diagnose._activations),
        ):
            for name in names:
                setattr(owner, name, self.timed(getattr(owner, name)))


def assembled(setting: str, folder: Path, stack: ExitStack) -> tuple[NetworkRun, Any]:
    overrides = [f"diagnostics={setting}", f"tracking.uri=sqlite:///{folder}/{setting}.db", "trainer.epochs=1"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    run = NetworkRun(config, folder / setting)
    run.save = lambda name, recorder: None  # type: ignore[method-assign]  # the same for all
    if setting == "none":
        return run, Unrecorded()
    lock = stack.enter_context(run_folder.writing(run.folder))
    return run, open_recorder(run, setting, overrides, parent=None, lock=lock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)  # so that what other threads do is tracking
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        runs = {setting: assembled(setting, Path(folder), stack) for setting in SETTINGS}
        clocks = {"processor": time.process_time, "clock": time.perf_counter}
        seconds: dict[tuple[str, str], list[float]] = {(s, c): [] for s in SETTINGS for c in clocks}
        inside = {setting: Inside() for setting in SETTINGS}
        for setting, (run, recorder) in runs.items():
            inside[setting].watch(run, recorder)
        within: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
        for epoch in range(epochs + 1):
            order = list(SETTINGS)[epoch % 3 :] + list(SETTINGS)[: epoch % 3]
            for setting in order:
                run, recorder = runs[setting]
                before = {name: clock() for name, clock in clocks.items()}
                measured, beside = inside[setting].seconds, time.process_time() - time.thread_time()
                run.settings.trainer.epochs = epoch + 1
                with run.training(recorder) as fit:
                    fit()
                for name, clock in clocks.items():
                    seconds[setting, name].append(clock() - before[name])
                beside = time.process_time() - time.thread_time() - beside
                within[setting].append(inside[setting].seconds - measured + beside)
    steps = runs["none"][0].steps_per_epoch
    print(f"{epochs} epochs of {steps} steps, after one to warm up")
    for setting, most in SETTINGS.items():
        if setting == "none":
            continue
        ratios = {
            name: (
                sum(seconds[setting, name][1:]) / sum(seconds["none", name][1:]),
                statistics.median(a / b for a, b in zip(seconds[setting, name], seconds["none", name], strict=True)),
            )
            for name in clocks
        }
        shown = ", ".join(f"{name} {total:.3f} (median epoch {middle:.3f})" for name, (total, middle) in ratios.items())
        total, measuring = sum(seconds[setting, "processor"][1:]), sum(within[setting][1:])
        print(f"{setting:8} at most {most:.2f}: {shown}, inside {total / (total - measuring):.3f}")


if __name__ == "__main__":
    main()
