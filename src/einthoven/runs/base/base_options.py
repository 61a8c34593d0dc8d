"""The options that a run takes from its base, and what a run may ask for instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from einthoven.errors import UserError
from einthoven.runs.config.next_commands import name_of_override
from einthoven.runs.config.options import flatten
from einthoven.runs.config.parameters import chosen_options
from einthoven.runs.folder.base_model import BaseModel
from einthoven.terminal.conf_folders import conf_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

OF_BASE = ("model", "pca")
"""Groups of a configuration that a run takes from its base."""

DROPOUT_RATES = ("dropout", "dropouts", "head_dropout", "drop_path")
"""Options of the networks that change neither a layer nor the shape of a weight."""


def named_rates(config: DictConfig, base: BaseModel, overrides: list[str]) -> dict[str, Any]:
    """Return the dropout rates that the command line, or a recipe, names. A named network names all its options.

    Raises a `UserError` if another option asks for another architecture than the base has.
    """
    rates: dict[str, Any] = {}
    chosen = chosen_options()
    usual = usual_options()
    by_recipe = [f"{group}={chosen[group]}" for group in OF_BASE if chosen.get(group) not in (None, usual[group])]
    for override in dict.fromkeys([*overrides, *by_recipe]):
        name = name_of_override(override)
        group, _, option = name.partition(".")
        group = group.partition("@")[0]
        if group not in OF_BASE:
            continue
        asked = flat_options(plain_group(config.get(group) or {}))
        expected = flat_options(base.options[group])
        names = [option] if option else ["_target_", *sorted(asked.keys() & expected.keys())]
        for key in names:
            # A rate that the network of the base does not have is refused as any other option.
            if group == "model" and key in DROPOUT_RATES and key in asked.keys() & expected.keys():
                rates[key] = asked[key]
            elif asked.get(key) != expected.get(key):
                raise UserError(
                    f"{override}: {group}.{key} is {expected.get(key)} in {base.source} and {asked.get(key)} here; "
                    f"expected the same, or no option of {group}, which comes from the base; only dropout rates may "
                    "differ, because they change no layer and no weight."
                )
    return rates


def difference_to_base(config: DictConfig, base: BaseModel, overrides: list[str]) -> str:
    """Return the first option of a configuration that a base does not suit, with both values; empty if there is none.

    Dropout rates that the command line names may differ.
    """
    named = [name_of_override(override) for override in overrides]
    data = plain_group(config.data)
    for name, expected_value in {"leads": list(base.leads), "fs": base.fs}.items():
        if data.get(name) not in (None, expected_value):
            return f"data.{name} is {data[name]} here and {expected_value} there"
    for group in OF_BASE:
        asked = flat_options(plain_group(config.get(group) or {}))
        expected = flat_options(base.options[group])
        for name in ["_target_", *sorted(asked.keys() | expected.keys())]:
            is_named_rate = name in DROPOUT_RATES and f"{group}.{name}" in named
            if not is_named_rate and asked.get(name) != expected.get(name):
                return f"{group}.{name} is {asked.get(name)} here and {expected.get(name)} there"
    return ""


def usual_options() -> dict[str, str]:
    """Return the option of each group that ``conf/train.yaml`` chooses."""
    from omegaconf import OmegaConf

    train = OmegaConf.to_container(OmegaConf.load(conf_folder() / "train.yaml"), resolve=False)
    assert isinstance(train, dict)
    usual: dict[str, str] = {}
    for entry in train["defaults"]:
        if isinstance(entry, dict):
            usual |= entry
    return usual


def plain_group(group: Any) -> dict[str, Any]:
    """Return a group of a configuration as a plain dict."""
    from omegaconf import OmegaConf

    container = OmegaConf.to_container(group, resolve=True)
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


def flat_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested options by their dotted names, with lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in flatten(options)}
