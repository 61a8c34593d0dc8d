"""The parameters of a run in MLflow: by what its runs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from einthoven.runs.options import logged_options, plain_options
from einthoven.runs.run_config import parsed

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
"""Groups of ``conf/`` of which the name of the chosen option is a parameter, such as ``optimizer=adamw``."""

_TOLD_BY_THE_OPTION = ("_target_", "_partial_")  # last part of a name
_LONG = ("augment.", "diagnostics.")  # groups of which the name of the option says enough


def parameters(config: DictConfig, overrides: Sequence[str]) -> dict[str, object]:
    """The chosen option of each part, and every number and text that was set in it.

    What repeats another option (``${data.fs}``), what names a function of this package, and the details of
    augmentations and of diagnostics stand in ``config.yaml`` alone, unless the command line gave them.

    Parameters
    ----------
    config : DictConfig
        Of a run.
    overrides : sequence of str
        What the command line, or the sweep, changed.
    """
    from omegaconf import OmegaConf

    given = {name_of_override(override) for override in overrides}
    written = OmegaConf.to_container(config, resolve=False)
    assert isinstance(written, dict)
    options = {str(key): value for key, value in written.items()}
    own = {name for name, value in logged_options(options).items() if "${" not in str(value)}
    values: dict[str, object] = {}
    for name, value in logged_options(plain_options(config)).items():
        last = name.rpartition(".")[2]
        is_detail = name.startswith(_LONG) or last in _TOLD_BY_THE_OPTION
        is_outside = last == "_target_" and not str(value).startswith("einthoven.")
        if name in given or is_outside or (name in own and not is_detail):
            values[name] = value
    groups = {*map(str, config), "experiment"}
    return {name: option for name, option in chosen_options().items() if name in groups} | values


def chosen_options(hydra: DictConfig | None = None) -> dict[str, str]:
    """The name of the option of each of `PARTS`, as Hydra has composed it; those that have none are left out.

    Parameters
    ----------
    hydra : DictConfig, optional
        The node ``hydra`` of a configuration; of the command that runs, if not given.
    """
    from hydra.core.hydra_config import HydraConfig

    if hydra is None and not HydraConfig.initialized():
        return {}
    choices: Mapping[str, Any] = (HydraConfig.get() if hydra is None else hydra).runtime.choices
    return {part: str(choices[part]) for part in PARTS if choices.get(part) is not None}


def options_of(config_yaml: str) -> dict[str, str]:
    """Every option of a run by its dotted name, as the artifact ``config.yaml`` has it.

    Raises
    ------
    UserError
        If it is not a mapping of plain values.
    """
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(parsed(config_yaml))
    assert isinstance(content, dict)
    return {name: str(value) for name, value in logged_options({str(k): v for k, v in content.items()}).items()}


def name_of_override(override: str) -> str:
    """``+model.width=8`` -> ``model.width``."""
    return override.lstrip("+~").partition("=")[0]
