"""`einthoven list … --plot`: what schedules and augmentations do, as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from einthoven import trust
from einthoven.build import build, values
from einthoven.terminal.conf_folders import as_option, option_files
from einthoven.terminal.display import console

if TYPE_CHECKING:
    from omegaconf import DictConfig

STEPS = 400  # of the run that a schedule is drawn for
DRAWS = 50  # of each augmentation, of which the one that changes most is drawn
Augment = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]
FS = 500  # Hz, of the record that is augmented: mains hum needs more than 100


def multipliers(folders: Sequence[Path], name: str) -> list[float]:
    """A schedule's multiplier at each of `STEPS` steps, with the options of its yaml.

    Parameters
    ----------
    folders : sequence of Path
        Of the configuration, that of this package first.
    name : str
        Of the schedule.
    """
    from omegaconf import DictConfig, OmegaConf

    config = OmegaConf.load(option_files(folders, "schedule")[name])
    assert isinstance(config, DictConfig)
    # A file that builds on others is composed; this takes longer.
    schedule = _built(folders, "schedule", name) if "defaults" in config else _trusted(config, "schedule")
    return [schedule(step, STEPS) for step in range(STEPS)]


def plot_schedules(folders: Sequence[Path]) -> None:
    """Draw every schedule into ``schedules.png``."""
    from einthoven.report.figures import schedules_figure

    names = sorted(option_files(folders, "schedule"))
    schedules_figure({name: multipliers(folders, name) for name in names}).savefig("schedules.png", dpi=150)
    console.print("drawn in schedules.png (a plateau waits for a metric: without one, it is constant)")


def plot_augmentations(folders: Sequence[Path]) -> None:
    """Draw one generated ECG under every augmentation, as its yaml has it, into ``augmentations.png``."""
    from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT
    from einthoven.data.synthetic.generate import generate
    from einthoven.report.small_multiples import augmentation_figure

    x = torch.from_numpy(generate(2, rates=(FS,), noise=0.0).signals[FS]) * MILLIVOLT_PER_COUNT
    names = sorted(name for name in option_files(folders, "augment") if name != "none")
    drawn = {name: _changed(x, _built(folders, "augment", name, f"data.fs={FS}")) for name in names}
    augmentation_figure(x[0].numpy(), drawn, FS).savefig("augmentations.png", dpi=100)
    console.print("drawn in augmentations.png")


def _built(folders: Sequence[Path], group: str, name: str, *options: str) -> Any:
    """An option of a group, as a training with it builds it."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(folders[0]), version_base="1.3"):
        config = compose("train", [*as_option(folders[1:]), f"{group}={name}", *options])
    return _trusted(config[group], group)


def _trusted(part: DictConfig, group: str) -> Any:
    """Build a part of the user's own configuration."""
    trust.trust(str(value) for key, value in values(part, group) if key.endswith("_target_"))
    return build(part, group)


def _changed(x: Tensor, augment: Augment) -> NDArray[np.float32]:
    """The first record of a batch, in the draw that does most to it: what acts now and then, or a little, shows."""
    generator, labels = Generator().manual_seed(0), torch.eye(len(x))
    draws = [augment(x.clone(), labels, generator)[0][0] for _ in range(DRAWS)]
    most = max(draws, key=lambda seen: float((seen - x[0, :, : seen.shape[-1]]).abs().mean()))
    return most.numpy()
