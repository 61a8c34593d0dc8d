"""The pictures of `einthoven list … --plot`: schedules and augmentations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from einthoven.atomic import atomic
from einthoven.build import build, trust_named
from einthoven.terminal.composition import compose_options
from einthoven.terminal.conf_folders import load_option, option_files
from einthoven.terminal.display import console

STEPS = 400
"""Steps of the run that a schedule is drawn for."""

DRAWS = 50
"""Draws of each augmentation. The one that changes the record most is drawn."""

FS = 500
"""Sampling frequency in Hz of the record that is augmented. Mains hum needs more than 100 Hz."""

Augment = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]


def multipliers(folders: Sequence[Path], name: str) -> list[float]:
    """Return the multiplier of a schedule at each of `STEPS` steps, with the values of its yaml."""
    config = load_option(option_files(folders, "schedule")[name])
    # Composing takes longer than reading one file. Only a file with a defaults list needs it.
    if "defaults" in config:
        config = compose_options(folders, "train", f"schedule={name}").schedule
    trust_named(config)
    schedule = build(config, "schedule")
    return [schedule(step, STEPS) for step in range(STEPS)]


def plot_schedules(folders: Sequence[Path]) -> None:
    """Draw every schedule into ``schedules.png``."""
    from einthoven.report.figures import schedules_figure

    names = sorted(option_files(folders, "schedule"))
    figure = schedules_figure({name: multipliers(folders, name) for name in names})
    with atomic(Path("schedules.png")) as partial:
        figure.savefig(partial, dpi=150)
    console.print("The schedules are drawn in schedules.png. A plateau follows a metric, so that it is constant there.")


def plot_augmentations(folders: Sequence[Path]) -> None:
    """Draw one generated ECG under every augmentation, with the values of its yaml, into ``augmentations.png``."""
    from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT
    from einthoven.data.synthetic.generate import generate
    from einthoven.report.small_multiples import augmentation_figure

    x = torch.from_numpy(generate(2, rates=(FS,), noise=0.0).signals[FS]) * MILLIVOLT_PER_COUNT
    augmented = {}
    for name in sorted(option_files(folders, "augment")):
        if name != "none":
            config = compose_options(folders, "train", f"augment={name}", f"data.fs={FS}").augment
            trust_named(config)
            augmented[name] = _most_changed(x, build(config, "augment"))
    figure = augmentation_figure(x[0].numpy(), augmented, FS)
    with atomic(Path("augmentations.png")) as partial:
        figure.savefig(partial, dpi=100)
    console.print("The augmentations are drawn in augmentations.png.")


def _most_changed(x: Tensor, augment: Augment) -> NDArray[np.float32]:
    """Augment a batch several times, and return the first record of the draw that changes it most.

    A random draw may change nothing that can be seen.
    """
    generator = Generator().manual_seed(0)
    labels = torch.eye(len(x))
    draws = [augment(x.clone(), labels, generator)[0][0] for _ in range(DRAWS)]

    def change(record: Tensor) -> float:
        return float((record - x[0, :, : record.shape[-1]]).abs().mean())

    return max(draws, key=change).numpy()
