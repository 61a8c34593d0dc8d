"""The options that a sweep varies. They are checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from einthoven.errors import UserError
from einthoven.runs.config.outside import outside_modules

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig


def varied(config: DictConfig, loader: ConfigLoader) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read which options a sweep varies, and compose its runs to find mistakes early. The loader composed `config`.

    Return each varied option with its values, as they were typed, and the modules outside of einthoven that the runs
    need.
    """
    from hydra.utils import instantiate

    arguments = list(config.hydra.overrides.task)
    overrides = read(config.hydra.sweeper.params or {}, arguments, loader)
    if config.resume is not None or "resume" in overrides:
        raise UserError(
            "resume continues one run as it was configured: expected it without a sweep. A sweep that was interrupted "
            "goes on by its own command."
        )
    # Other sweepers have grammars of their own, so their runs are not composed here.
    sweeper = config.hydra.sweeper._target_
    if sweeper.rpartition(".")[2] == "TPESweeper":
        instantiate(config.hydra.sweeper).plan(arguments, loader)
        values = {name: _example_values(override) for name, override in overrides.items()}
        runs = _compose(config, loader, overrides, values)
    elif sweeper == usual_sweeper():
        values = {name: choices(override) for name, override in overrides.items()}
        runs = _compose(config, loader, overrides, values)
    else:
        runs = [config]

    modules = {module for run in runs for module in outside_modules(run)}
    options = {}
    for name, override in overrides.items():
        if override.is_sweep_override():
            options[name] = (override.input_line or "").partition("=")[2]
    return options, tuple(sorted(modules))


def usual_sweeper() -> str:
    """Return the class of the sweeper that Hydra uses if none is chosen."""
    from hydra.core.config_store import ConfigStore

    return str(ConfigStore.instance().load("hydra/sweeper/basic.yaml").node._target_)


def _example_values(override: Override) -> list[str]:
    """Return values of an option that a search draws from: all choices, or the start of an interval."""
    value: Any = override.value()
    return [str(value.start)] if override.is_interval_sweep() else choices(override)


def _compose(
    config: DictConfig, loader: ConfigLoader, overrides: Mapping[str, Override], values: Mapping[str, Sequence[str]]
) -> list[DictConfig]:
    """Compose runs so that each part that the sweep chooses from is in one of them.

    Numbers do not decide what can be composed, so that one value of each is enough.
    """
    first = {name: options[0] for name, options in values.items()}
    runs = [first]
    for name, override in overrides.items():
        is_part = bool(loader.get_group_options(override.key_or_group))
        if is_part:
            runs += [first | {name: value} for value in values[name][1:]]
    return [loader.load_sweep_config(config, [f"{name}={value}" for name, value in run.items()]) for run in runs]


def read(params: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader | None) -> dict[str, Override]:
    """Parse options, and return them by name. An argument replaces the option of the same name in `params`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create(config_loader=loader)
    overrides = parser.parse_overrides([*(f"{name}={value}" for name, value in params.items()), *arguments])
    return {override.get_key_element(): override for override in overrides}


def choices(override: Override) -> list[str]:
    """Return the values of an option as they are typed; one value if the option is not varied.

    Raises a `UserError` if the values cannot be counted, or there are none.
    """
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    value: Any = override.value()
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: expected values, as in seed=0,1,2.")
    if override.is_range_sweep() and value.step == 0:
        raise UserError(f"{override.input_line}: a range in steps of 0; expected another step.")
    values = list(override.sweep_string_iterator())
    if not values:
        raise UserError(f"{override.input_line}: no value; expected one or more.")
    return values
