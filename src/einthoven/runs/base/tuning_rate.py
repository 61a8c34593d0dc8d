"""The learning rate of a run that starts from a trained model, if the user has not chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from einthoven.contracts import CLASS_OUTPUTS
from einthoven.runs.config.next_commands import name_of_override
from einthoven.runs.config.parameters import chosen_options
from einthoven.runs.folder.base_model import BaseModel
from einthoven.terminal.conf_folders import conf_folder, load_option

if TYPE_CHECKING:
    from omegaconf import DictConfig

OPTIMIZER = "adamw"
"""The optimizer with which the rates were compared (docs/label_efficiency.md). The others keep their own rate."""

OF_CLASSIFIER = 3e-4
"""Learning rate from a base that predicts classes."""

OF_OTHER = 1e-3
"""Learning rate from another base, and with a smaller rate for the earlier stages."""


def tuning_rate(config: DictConfig, base: BaseModel, overrides: Sequence[str]) -> float | None:
    """Return the learning rate of a fine-tuning; None if it stays as it is.

    The rate of ``conf/optimizer/adamw.yaml`` is for training from scratch. It is replaced unless `keeps_rate` says so.
    """
    if keeps_rate(config, overrides):
        return None
    is_classifier = base.output in CLASS_OUTPUTS
    return OF_CLASSIFIER if is_classifier and config.trainer.layer_decay == 1 else OF_OTHER


def keeps_rate(config: DictConfig, overrides: Sequence[str]) -> bool:
    """Return whether the learning rate stays as it is: somebody has set it, or AdamW does not train all stages."""
    chosen = chosen_options().get("optimizer", OPTIMIZER)
    is_named = any(name_of_override(override) == "optimizer.lr" for override in overrides)
    if chosen != OPTIMIZER or is_named or config.trainer.finetune == "probe":
        return True
    # A recipe may have set another rate.
    usual = load_option(conf_folder() / "optimizer" / f"{OPTIMIZER}.yaml")
    return bool(config.optimizer.get("_target_") != usual["_target_"] or config.optimizer.get("lr") != usual["lr"])
