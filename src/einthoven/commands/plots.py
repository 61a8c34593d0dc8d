"""`einthoven list … --plot`: what schedules and augmentations do, as pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from einthoven.build import build
from einthoven.commands.terminal import console

STEPS = 400  # of the run that a schedule is drawn for
DRAWS = 50  # of each augmentation, of which the one that changes most is drawn
Augment = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]
FS = 500  # Hz, of the record that is augmented: mains hum needs more than 100


def multipliers(path: Path) -> list[float]:
    """A schedule's multiplier at each of `STEPS` steps, with the options of its yaml."""
    from omegaconf import DictConfig, OmegaConf

    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    schedule = build(config, "schedule")
    return [schedule(step, STEPS) for step in range(STEPS)]


def plot_schedules(conf: Path) -> None:
    """Draw every schedule into ``schedules.png``."""
    from einthoven.report.figures import schedules_figure

    paths = sorted((conf / "schedule").glob("*.yaml"))
    schedules_figure({path.stem: multipliers(path) for path in paths}).savefig("schedules.png", dpi=150)
    console.print("drawn in schedules.png (a plateau waits for a metric: without one, it is constant)")


def plot_augmentations(conf: Path) -> None:
    """Draw one generated ECG under every augmentation, as its yaml has it, into ``augmentations.png``."""
    from hydra import compose, initialize_config_dir

    from einthoven.data.store import MILLIVOLT_PER_COUNT
    from einthoven.data.synthetic.generate import generate
    from einthoven.report.small_multiples import augmentation_figure

    x = torch.from_numpy(generate(2, rates=(FS,), noise=0.0).signals[FS]) * MILLIVOLT_PER_COUNT
    names = sorted(path.stem for path in (conf / "augment").glob("*.yaml") if path.stem != "none")
    drawn = {}
    with initialize_config_dir(str(conf), version_base="1.3"):
        for name in names:
            augment = build(compose("train", [f"augment={name}", f"data.fs={FS}"]).augment)
            drawn[name] = _changed(x, augment)
    augmentation_figure(x[0].numpy(), drawn, FS).savefig("augmentations.png", dpi=100)
    console.print("drawn in augmentations.png")


def _changed(x: Tensor, augment: Augment) -> NDArray[np.float32]:
    """The first record of a batch, in the draw that does most to it: what acts now and then, or a little, shows."""
    generator, labels = Generator().manual_seed(0), torch.eye(len(x))
    draws = [augment(x.clone(), labels, generator)[0][0] for _ in range(DRAWS)]
    most = max(draws, key=lambda seen: float((seen - x[0, :, : seen.shape[-1]]).abs().mean()))
    return most.numpy()
