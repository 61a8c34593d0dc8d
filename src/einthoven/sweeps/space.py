"""What a sweep varies: read from its options, and refused before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from einthoven.errors import UserError
from einthoven.runs.outside import outside_modules

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig


def varied(config: DictConfig, loader: ConfigLoader) -> tuple[dict[str, str], tuple[str, ...]]:
    """Options that have several values in a sweep, with these values, and outside modules that its runs need.

    Parameters
    ----------
    config : DictConfig
        Of the sweep, with its ``hydra`` node.
    loader : ConfigLoader
        That which has composed it.

    Raises
    ------
    UserError
        If its sweeper cannot draw from what an option may be, or it continues runs by ``resume``.
    HydraException
        If an option cannot be read, or a run of the sweep cannot be composed.
    """
    from hydra.utils import instantiate

    arguments = list(config.hydra.overrides.task)
    given = read(config.hydra.sweeper.params or {}, arguments, loader)
    if config.resume is not None or "resume" in given:
        raise UserError(
            "resume continues one run as it was configured: expected it without a sweep. A sweep that was interrupted "
            "goes on by its own command."
        )
    sweeper = config.hydra.sweeper._target_.rpartition(".")[2]  # others have grammars of their own
    if sweeper == "TPESweeper":
        instantiate(config.hydra.sweeper).plan(arguments, loader)
        runs = _compose(config, loader, given, {name: _some(option) for name, option in given.items()})
    elif sweeper == "BasicSweeper":
        runs = _compose(config, loader, given, {name: choices(option) for name, option in given.items()})
    else:
        runs = [config]
    modules = {module for run in runs for module in outside_modules(run)}
    swept = {name: option.input_line or "" for name, option in given.items() if option.is_sweep_override()}
    return {name: line.partition("=")[2] for name, line in swept.items()}, tuple(sorted(modules))


def _some(option: Override) -> list[str]:
    """Values of an option that is searched."""
    value: Any = option.value()
    return [str(value.start)] if option.is_interval_sweep() else choices(option)


def _compose(
    config: DictConfig, loader: ConfigLoader, given: Mapping[str, Override], values: Mapping[str, Sequence[str]]
) -> list[DictConfig]:
    """Compose a run with each part that a sweep chooses from; its numbers do not decide what can be composed."""
    first = {name: each[0] for name, each in values.items()}
    parts = [name for name, option in given.items() if loader.get_group_options(option.key_or_group)]
    runs = (first, *(first | {name: value} for name in parts for value in values[name][1:]))
    return [loader.load_sweep_config(config, [f"{name}={value}" for name, value in run.items()]) for run in runs]


def read(params: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader | None) -> dict[str, Override]:
    """Options by name; an argument replaces the option of the same name in `params`.

    Raises
    ------
    OverrideParseException
        If one is not of the grammar.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create(config_loader=loader)
    given = parser.parse_overrides([*(f"{name}={value}" for name, value in params.items()), *arguments])
    return {override.get_key_element(): override for override in given}


def choices(override: Override) -> list[str]:
    """The values of an option, as they are written; one, if it is not varied.

    Raises
    ------
    UserError
        If they cannot be counted, or there are none.
    """
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    value: Any = override.value()
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: expected values, as in seed=0,1,2.")
    if override.is_range_sweep() and value.step == 0:
        raise UserError(f"{override.input_line}: a range in steps of 0; expected another step.")
    found = list(override.sweep_string_iterator())
    if not found:
        raise UserError(f"{override.input_line}: no value; expected one or more.")
    return found
