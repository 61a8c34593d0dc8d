"""The parameters of a run in MLflow, by which runs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from einthoven.runs.config.next_commands import name_of_override
from einthoven.runs.config.options import logged_options, plain_options
from einthoven.runs.config.run_config import parse_yaml

if TYPE_CHECKING:
    from omegaconf import DictConfig

PARTS = (
    "augment",
    "data",
    "diagnostics",
    "experiment",
    "init",
    "loss",
    "model",
    "optimizer",
    "pca",
    "penalty",
    "schedule",
    "task",
)
"""Groups of ``conf/`` whose chosen option is a parameter, such as ``optimizer=adamw``."""

_IMPLIED_KEYS = ("_target_", "_partial_")
"""Last parts of names whose value follows from the chosen option."""

_DETAILED_GROUPS = ("augment.", "diagnostics.", "mean_with.")
"""Groups with many options. The name of the chosen option says enough."""


def parameters(config: DictConfig, overrides: Sequence[str]) -> dict[str, object]:
    """Return the chosen option of each group, and every value that was set.

    Left out are values that repeat another option (``${data.fs}``), names of functions of this package, and details of
    augmentations and diagnostics, unless the command line or the sweep changed them. They are all in ``config.yaml``.
    """
    from omegaconf import OmegaConf

    changed = {name_of_override(override) for override in overrides}
    unresolved = OmegaConf.to_container(config, resolve=False)
    assert isinstance(unresolved, dict)
    options = logged_options({str(key): value for key, value in unresolved.items()})
    set_here = {name for name, value in options.items() if "${" not in str(value)}
    values: dict[str, object] = {}
    for name, value in logged_options(plain_options(config)).items():
        key = name.rpartition(".")[2]
        is_detail = name.startswith(_DETAILED_GROUPS) or key in _IMPLIED_KEYS
        is_outside_target = key == "_target_" and not str(value).startswith("einthoven.")
        if name in changed or is_outside_target or (name in set_here and not is_detail):
            values[name] = value
    members = list(map(str, config.get("mean_with") or ()))
    if members:
        # The option is a mapping by now, and its names tell enough.
        values["mean_with"] = f"[{','.join(members)}]"
    groups = {*map(str, config), "experiment"}
    return {name: option for name, option in chosen_options().items() if name in groups} | values


def chosen_options(hydra: DictConfig | None = None) -> dict[str, str]:
    """Return the chosen option of each of `PARTS` that has one, by default those of the running command."""
    from hydra.core.hydra_config import HydraConfig

    if hydra is None and not HydraConfig.initialized():
        return {}
    choices: Mapping[str, Any] = (HydraConfig.get() if hydra is None else hydra).runtime.choices
    return {part: str(choices[part]) for part in PARTS if choices.get(part) is not None}


def read_options(config_yaml: str) -> dict[str, str]:
    """Return every option in the text of the artifact ``config.yaml`` of a run by its dotted name."""
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(parse_yaml(config_yaml))
    assert isinstance(content, dict)
    options = logged_options({str(key): value for key, value in content.items()})
    return {name: str(value) for name, value in options.items()}
