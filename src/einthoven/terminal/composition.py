"""Compose a configuration of this package inside of a command, beside the configuration of the command itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.terminal.conf_folders import as_option

if TYPE_CHECKING:
    from omegaconf import DictConfig


def compose_options(folders: Sequence[Path], name: str, *options: str) -> DictConfig:
    """Return the configuration that Hydra composes from the words of a command line and folders with options.

    The first folder has ``NAME.yaml``, such as ``train`` or ``evaluate``.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    # Hydra may be composing or running the command itself.
    running = GlobalHydra.instance()
    hydra_of_command = running.hydra
    running.clear()
    try:
        with initialize_config_dir(str(folders[0].absolute()), version_base="1.3"):
            return compose(name, [*as_option(folders[1:]), *options])
    finally:
        running.hydra = hydra_of_command
