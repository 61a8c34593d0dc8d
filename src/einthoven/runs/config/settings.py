"""Check the whole configuration of a run before any data are read.

Importing this module takes no time: `read_settings` answers before torch is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from einthoven import schema, trust
from einthoven.build import build, check
from einthoven.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

PARTS = ("data", "task", "loss", "pca", "augment", "model", "init", "optimizer", "schedule", "penalty", "advice")
"""Groups that every run has, each with a ``_target_``."""

OPTIONAL_PARTS = ("analysis", "figure", "explanation")
"""Groups that a run may have. Runs of version 0.1 have no explanation."""

FEATURE_GROUPS = ("data", "task", "model", "tracking", "advice", "seed")
"""Groups that a run of a feature model depends on."""


@dataclass(frozen=True)
class Settings:
    """The groups of a configuration that hold only values, checked."""

    folds: schema.Folds
    trainer: schema.Trainer
    diagnostics: schema.Diagnostics
    tracking: schema.Tracking
    seed: int


def read_settings(config: DictConfig) -> Settings:
    """Check the groups that hold only values. This needs none of the packages that a run imports, such as torch."""
    from omegaconf import OmegaConf

    return Settings(
        folds=schema.read_group(config.data.folds, schema.Folds, "data.folds"),
        trainer=schema.read_group(config.trainer, schema.Trainer, "trainer"),
        diagnostics=schema.read_group(config.diagnostics, schema.Diagnostics, "diagnostics"),
        tracking=schema.read_group(config.tracking, schema.Tracking, "tracking"),
        seed=schema.read_group(OmegaConf.create({"seed": config.seed}), schema.Seed, "").seed,
    )


def check_settings(config: DictConfig) -> Settings:
    """Check every option of a run, and the signature of every part."""
    from einthoven.contracts import TaskKind
    from einthoven.runs.config.check_masks import check_masks

    settings = read_settings(config)
    optional = [name for name in OPTIONAL_PARTS if name in config]
    if not isinstance(config.get("again", False), bool):
        raise UserError(f"again={config.again}: expected true or false.")
    for name in (*PARTS, *optional):
        check(source_options(config) if name == "data" else config[name], name)

    # These parts check the range of their options when they are built.
    task = build_task(config)
    check_masks(config, task, settings.trainer)
    is_balanced = settings.trainer.sampler == "balanced"
    if is_balanced and task.kind is TaskKind.CLASSES and task.targets is not None:
        raise UserError(
            f"trainer.sampler=balanced: draws rare statements more often, and task.targets={task.targets} reads the "
            "classes from their probabilities, which would be far too large; expected shuffle."
        )
    build(config.schedule)(0, 1)
    penalty = build(config.penalty)
    if config.get("init_from") is None:
        _refuse_without_base(settings.trainer, penalty)
    if "analysis" in config:
        build(config.analysis)
    return settings


def _refuse_without_base(trainer: schema.Trainer, penalty: Any) -> None:
    """Refuse options that have no effect on a run that starts from fresh weights."""
    needs_base = {
        f"trainer.finetune={trainer.finetune}": trainer.finetune is not None,
        f"trainer.layer_decay={trainer.layer_decay:g}": trainer.layer_decay != 1.0,
        "trainer.freeze_norms=true": trainer.freeze_norms,
        f"penalty={getattr(penalty, 'name', type(penalty).__name__)}": getattr(penalty, "needs_base", False),
    }
    for option, is_given in needs_base.items():
        if is_given:
            raise UserError(
                f"{option}: needs a base, which is the trained model that the run starts from; expected "
                "init_from=RUN or init_from=BUNDLE too."
            )


def build_task(config: DictConfig) -> Any:
    """Build the task with its loss."""
    from omegaconf import OmegaConf

    task = OmegaConf.to_container(config.task, resolve=True)
    loss = OmegaConf.to_container(config.loss, resolve=True)
    assert isinstance(task, dict)
    return build(OmegaConf.create({**task, "objective": loss}), "task")


def source_options(config: DictConfig) -> DictConfig:
    """Return the options of the source of the records: the group `data` without the folds."""
    from omegaconf import OmegaConf

    return OmegaConf.masked_copy(config.data, [str(name) for name in config.data if name != "folds"])


def pads_records(config: DictConfig, stored: bool | None) -> bool:
    """Return whether the source of a run pads short records: as its store says, or else by the option of the source."""
    if stored is not None:
        return stored
    return config.data.get("short") == "pad"


def is_feature_model(config: DictConfig) -> bool:
    """Return whether the model is fitted to features at once instead of trained by gradients."""
    from einthoven.models.features import FeatureModel

    target = trust.find_target(config.model._target_, "model")
    return isinstance(target, type) and issubclass(target, FeatureModel)
