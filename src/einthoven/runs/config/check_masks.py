"""Refuse options that do not go together with values along the signal, before any data are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from einthoven import trust
from einthoven.augment.base import keeps_dipole, keeps_masks
from einthoven.build import build
from einthoven.contracts import TaskKind
from einthoven.errors import UserError
from einthoven.schema import Trainer

if TYPE_CHECKING:
    from omegaconf import DictConfig


def check_masks(config: DictConfig, task: Any, trainer: Trainer) -> None:
    """Refuse a model whose output does not fit the task, and options that have no meaning for masks."""
    network = trust.find_target(config.model._target_, "model")
    name = str(config.model._target_).rpartition(".")[2]
    runs_along_time = bool(getattr(network, "output_along_time", False))
    if task.kind is not TaskKind.MASKS:
        if runs_along_time:
            raise UserError(
                f"model: {name} gives a value for each sample, and task={task.name} asks for values of whole records; "
                "expected task=delineation, or another model."
            )
        if getattr(task, "reads_truth", False):
            _check_truth(config, trainer)
        return

    if not runs_along_time:
        raise UserError(
            f"task={task.name}: asks for a value for each sample, and the model {name} gives values of whole records; "
            "expected model=unet1d."
        )
    if trainer.window is not None:
        raise UserError(
            f"trainer.window={trainer.window:g}: a mask is as long as its record; expected trainer.window=null."
        )
    if trainer.sampler != "shuffle":
        raise UserError(
            f"trainer.sampler={trainer.sampler}: counts classes of records, and masks have none; expected shuffle."
        )
    if trainer.aggregate != "mean":
        raise UserError(
            f"trainer.aggregate={trainer.aggregate}: joins windows of a record, and masks have one window; expected "
            "mean."
        )
    if str(config.pca._target_).rpartition(".")[0].endswith("TimeFrontend"):
        raise UserError("pca=time: joins several samples to one step, and a mask has a value for each; expected none.")
    _check_augment(build(config.augment), keeps_masks, "masks")


def _check_truth(config: DictConfig, trainer: Trainer) -> None:
    """Refuse options with which masks and heart vectors would not fit the signals."""
    if trainer.window is not None:
        raise UserError(
            f"trainer.window={trainer.window:g}: the truth is as long as its record, and task=generator cuts both to "
            "the window of the network; expected trainer.window=null."
        )
    _check_augment(build(config.augment), keeps_dipole, "masks and heart vectors")


def _check_augment(augment: Any, keeps: Callable[[object], bool], truth: str) -> None:
    """Refuse transforms after which what runs along the signal is wrong, such as those that move samples in time."""
    transforms = getattr(augment, "transforms", {"augment": augment})
    changing = [name for name, transform in transforms.items() if not keeps(transform)]
    if changing:
        raise UserError(
            f"augment: after {' and '.join(changing)}, the {truth} would no longer fit the signals; expected a "
            "probability of 0, or augment=delineation."
        )
