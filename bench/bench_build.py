"""Calls of a built schedule and a built loss against calls of the bare functions: python bench/bench_build.py.

`einthoven.build.build` must return objects that cost nothing in each call. The last column is the same object from
``hydra.utils.instantiate``, whose partial objects repeat the checks of Hydra in every call.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import hydra.utils
import torch
from omegaconf import DictConfig, OmegaConf

from einthoven.build import build
from einthoven.losses.classification import cross_entropy
from einthoven.optim.schedules import cosine
from einthoven.terminal.conf_folders import conf_folder

RECORDS, CLASSES = 32, 5
CALLS, REPEATS = 2000, 5


def main() -> None:
    torch.set_num_threads(1)
    logits = torch.randn(RECORDS, CLASSES, generator=torch.Generator().manual_seed(0))
    labels = (logits > 0).float()
    # The options in these files are the defaults of the functions.
    schedule_config = DictConfig(OmegaConf.load(conf_folder() / "schedule" / "cosine.yaml"))
    loss_config = DictConfig(OmegaConf.load(conf_folder() / "loss" / "cross_entropy.yaml"))

    cases: list[tuple[str, DictConfig, Callable[..., object], tuple[object, ...]]] = [
        ("schedule", schedule_config, cosine, (500, 1000)),
        ("loss", loss_config, cross_entropy, (logits, labels)),
    ]
    print(f"{'µs per call':12} {'bare':>8} {'built':>8} {'ratio':>6} {'by Hydra':>9} {'ratio':>6}")
    for name, config, function, arguments in cases:
        bare_time = microseconds(function, arguments)
        built_time = microseconds(build(config, name), arguments)
        hydra_time = microseconds(hydra.utils.instantiate(config, _convert_="all"), arguments)
        print(
            f"{name:12} {bare_time:8.1f} {built_time:8.1f} {built_time / bare_time:6.2f}"
            f" {hydra_time:9.1f} {hydra_time / bare_time:6.0f}"
        )


def microseconds(function: Callable[..., object], arguments: tuple[object, ...]) -> float:
    """Return the time of one call: the fastest of several repeats."""
    fastest = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(CALLS):
            function(*arguments)
        fastest = min(fastest, time.perf_counter() - start)
    return fastest / CALLS * 1e6


if __name__ == "__main__":
    main()
