"""The usual name of a run says what makes it differ from a plain run of the same parts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

_NAMED = ("ema", "swa", "profile")
"""Options of `trainer` that are parts of the name: runs with and without them are compared side by side."""

_SEED = "-seed${seed}"


def with_trainer_name(config: DictConfig) -> DictConfig:
    """Return the configuration with ``-ema0.99``, ``-swa3`` or ``-profile5`` before the seed in the name of the run.

    A name that the user has chosen does not change.
    """
    parts = []
    for option in _NAMED:
        value = config.trainer.get(option)
        if value is not None:
            # A dollar sign would begin an interpolation. A value of another kind is refused later.
            parts.append(f"-{option}{value}".replace("$", ""))
    pattern = unresolved_name(config)
    if not parts or not pattern.endswith(_SEED):
        return config
    return renamed(config, pattern.removesuffix(_SEED) + "".join(parts) + _SEED)


def without_optimizer_name(config: DictConfig) -> DictConfig:
    """Return the configuration with a name of the run that does not contain an optimizer and a schedule."""
    name = re.sub(r"-\$\{hydra:runtime\.choices\.(optimizer|schedule)\}", "", unresolved_name(config))
    return renamed(config, name)


def renamed(config: DictConfig, name: str) -> DictConfig:
    """Return the configuration with another name of the run."""
    from omegaconf import DictConfig, OmegaConf

    merged = OmegaConf.merge(config, {"tracking": {"run_name": name}})
    assert isinstance(merged, DictConfig)
    return merged


def unresolved_name(config: DictConfig) -> str:
    """Return the name of the run with its references, such as ``${seed}``."""
    from omegaconf import OmegaConf

    tracking = OmegaConf.to_container(config.tracking, resolve=False)
    assert isinstance(tracking, dict)
    return str(tracking["run_name"])
