"""A run of two steps on a few generated records, with any choice of parts: for tests of many choices.

The configuration is composed as the command line composes it, and the run is assembled as `einthoven train`
assembles it, refusals included; MLflow alone is left out. A composed choice and the labelled records of a task
are kept, so that a combination costs milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

import composing
from einthoven.contracts import Position
from einthoven.runs import network_run
from einthoven.runs.base.read_base import with_base
from einthoven.runs.config.settings import is_feature_model
from einthoven.runs.data import data_loading
from einthoven.runs.feature_run import FeatureRun
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.start import assemble_run
from einthoven.terminal.conf_folders import conf_folder

CONF = conf_folder()
RECORDS = ("data=synthetic", "data.records=60")
MODEL = ("model=mlp", "model.width=8", "model.depth=1")  # where none is chosen
DEFAULT_MODEL = "conv_attention"
TINY = ("augment=none", "trainer.window=2.5", "trainer.stride=10")
QUIET = ("tracking.experiment=grid", "tracking.run_name=grid")  # the usual ones ask Hydra for names
SHORT = ("trainer.epochs=2", "trainer.batch_size=64", "trainer.device=cpu")  # all training records are one batch

# Fewer channels and blocks of the same kind; a model that is not named trains as its yaml says.
SMALL = {
    "bilstm": ("model.hidden=8", "model.layers=1"),
    "conv_attention": ("model.channels=[8,8]", "model.heads=2", "model.window=1.0"),
    "fcn_wang": ("model.channels=[8,8,8]",),
    "inception1d": ("model.depth=3", "model.filters=4", "model.bottleneck=4"),
    "lstm": ("model.hidden=8", "model.layers=1"),
    "mlp": ("model.width=16",),
    "resnet1d_wang": ("model.width=8",),
    "s4d": ("model.width=8", "model.depth=1"),
    "unet1d": ("model.channels=[4,8,8]",),
    "vit1d": ("model.dim=16", "model.depth=1", "model.heads=2"),
    "xresnet1d101": ("model.width=4", "model.blocks=[1,1,1,1]"),
    "xresnet1d18": ("model.width=4", "model.blocks=[1,1,1,1]"),
    "xresnet1d50": ("model.width=4", "model.blocks=[1,1,1,1]"),
}


def options(group: str) -> list[str]:
    """Every option of a group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def a_model(name: str) -> tuple[str, ...]:
    """The overrides that choose a model, and make it small."""
    return (f"model={name}", *SMALL.get(name, ()))


@cache
def composed(*overrides: str) -> DictConfig:
    """A tiny run, changed by the overrides; not to be written to."""
    model = () if any(override.startswith("model=") for override in overrides) else MODEL
    config = composing.composed("train", *RECORDS, *TINY, *QUIET, *SHORT, *model, *overrides)
    OmegaConf.set_readonly(config, True)
    return config


@cache
def as_written(*overrides: str) -> DictConfig:
    """A choice as a user types it, with the default augmentation and windows, on few records and with a small model."""
    given = {override.partition("=")[0] for override in overrides}
    chosen = [override.removeprefix("model=") for override in overrides if override.startswith("model=")]
    model = chosen[0] if chosen else DEFAULT_MODEL
    small = [override for override in SMALL.get(model, ()) if override.partition("=")[0] not in given]
    short = [override for override in SHORT if override.partition("=")[0] not in given]
    config = composing.composed("train", *RECORDS, *QUIET, *short, *overrides, *small)
    OmegaConf.set_readonly(config, True)
    return config


def combined(**parts: tuple[str, ...]) -> DictConfig:
    """A tiny run in which each part named is taken from a composition of its own."""
    config = composed().copy()
    OmegaConf.set_readonly(config, False)
    for part, overrides in parts.items():
        config[part] = composed(*overrides)[part]
    return config


class Notes:
    """In the recorder's place: keeps what is recorded."""

    run_id = "none"
    position = 0

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self.history: dict[str, tuple[list[int], list[float]]] = {}
        self.losses: list[float] = []

    def log_metrics(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        self.latest |= {name: float(value) for name, value in values.items()}
        if "train/loss" in values:
            self.losses.append(self.latest["train/loss"])

    def flush(self) -> None:
        """Nothing waits."""


class Bench:
    """Trains combinations on records that are read once for each task.

    Parameters
    ----------
    folder : Path
        Where records and checkpoints are kept.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._data: dict[str, Any] = {}
        self._load = data_loading.load_data
        monkeypatch.setattr(data_loading, "load_data", self._kept)
        monkeypatch.setattr(network_run, "TrainingDisplay", _Silence)

    def _kept(self, config: DictConfig, *others: Any) -> Any:
        config = config.copy()
        OmegaConf.set_readonly(config, False)
        config.data.cache = str(self.folder / "cache")
        key = OmegaConf.to_yaml(config.data, resolve=True) + OmegaConf.to_yaml(config.task, resolve=True)
        if key not in self._data:
            self._data[key] = self._load(config, *others)
        return self._data[key]

    def assembled(self, config: DictConfig) -> NetworkRun:
        """The run of a configuration, with everything built and nothing trained."""
        # Nothing of a command that ran earlier in this process: the choices of this run are those of its configuration.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HydraConfig.instance(), "cfg", None)
            run = assemble_run(with_base(config, []), self.folder)
        assert isinstance(run, NetworkRun)
        return run

    def train(self, config: DictConfig) -> dict[str, float]:
        """Two steps of a configuration; a model without steps is fitted. The metrics that a run would record."""
        if not is_feature_model(config):
            return two_steps(self.assembled(config))
        run = FeatureRun(config, self.folder)
        train(run, Notes())
        found = run.evaluate("val")
        assert len(np.unique(found.p, axis=0)) > 1, "every record is answered alike"
        return {f"val/{k}": v for k, v in run.task.metrics(found.y, found.p, run.data.labels.classes).items()}


def train(run: NetworkRun | FeatureRun, notes: Notes) -> None:
    """Train a run to its last epoch."""
    with run.training(notes) as fit:  # type: ignore[arg-type]
        fit()


def two_steps(made: NetworkRun) -> dict[str, float]:
    """Two steps from the beginning, a validation and a checkpoint; the metrics that were recorded.

    Every loss is finite, and the weights have moved.
    """
    made.position, notes = Position(), Notes()
    before = [p.detach().clone() for p in made.model.parameters()]
    train(made, notes)
    after = list(made.model.parameters())
    assert len(notes.losses) >= 2 and all(map(math.isfinite, notes.losses)), notes.losses
    assert math.isfinite(notes.latest["val/loss"])
    assert all(p.isfinite().all() for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)), "no weight has moved"
    return notes.latest


class _Silence:
    """In the display's place."""

    def __init__(self, *_: Any) -> None: ...

    def __enter__(self) -> _Silence:
        return self

    def __exit__(self, *_: object) -> None: ...

    def add_losses(self, losses: Any) -> None: ...

    def wants_losses(self) -> bool:
        return False

    def step(self, position: Any) -> None: ...

    def epoch(self, position: Any) -> None: ...
