"""Parameters of every network, and the time of a training step on the CPU over that of the default model.

    python bench/bench_models.py [MODEL ...]

Batches of 32x12x1000 at 100 Hz, float32, AdamW, 5 classes, options as in conf/model. Interleaved rounds; the median of
each model counts. Note that conv_attention reads 250 of the 1000 samples in a training step and the others all of them.
"""

from __future__ import annotations

import inspect
import statistics
import sys
import time
from collections.abc import Callable

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from einthoven.build import build
from einthoven.losses.classification import binary_cross_entropy
from einthoven.terminal.conf_folders import conf_folder

ROUNDS = 3
DEFAULT = "conv_attention"


def model_of(name: str) -> torch.nn.Module:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", overrides=[f"model={name}"])
    torch.manual_seed(0)
    network = build(config.model)
    sized = {"samples": 1000} if "samples" in inspect.signature(network.func).parameters else {}
    made: torch.nn.Module = network(in_channels=12, num_classes=5, **sized)
    return made


def networks() -> list[str]:
    """Every option of conf/model that is trained step by step."""
    files = sorted((conf_folder() / "model").glob("*.yaml"))
    return [file.stem for file in files if OmegaConf.load(file).get("_partial_")]


def stepper(model: torch.nn.Module) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = torch.randn(32, 12, 1000), torch.rand(32, 5).round()

    def step() -> None:
        optimizer.zero_grad()
        binary_cross_entropy(model(x), y).mean().backward()
        optimizer.step()

    return step


def main() -> None:
    names = sys.argv[1:] or networks()
    models = {name: model_of(name) for name in dict.fromkeys([DEFAULT, *names])}
    steps = {name: stepper(model) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(ROUNDS + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"{torch.get_num_threads()} threads")
    print(f"{'model':<16}{'parameters':>12}{'ms/step':>10}{'ratio':>8}")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        parameters = sum(p.numel() for p in models[name].parameters())
        print(f"{name:<16}{parameters:>12,}{1000 * median:>10.0f}{median / medians[DEFAULT]:>8.2f}")


if __name__ == "__main__":
    main()
