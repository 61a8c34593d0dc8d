"""Folders that Hydra makes before a run could be refused: those that stay empty are removed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

if TYPE_CHECKING:
    from omegaconf import DictConfig

_new: list[Path] = []


class NewFolders(Callback):
    """Notes which folders there are not yet before a run or a sweep makes its own."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the folder of the run, and those above it."""
        _note(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the folder of the sweep, and those above it."""
        _note(config, "sweep")


def _note(config: DictConfig, kind: str) -> None:
    from hydra.core.hydra_config import HydraConfig

    HydraConfig.instance().set_config(config)  # the name of the folder refers to it
    folder = Path(config.hydra[kind].dir).absolute()
    _new[:] = [each for each in (folder, *folder.parents) if not each.exists()]


def remove_unused() -> None:
    """Remove what is empty of the folders that were noted, and of all in the innermost, which is this call's alone."""
    inside = [Path(place) for place, *_ in os.walk(_new[0], topdown=False)] if _new else []
    for folder in (*inside, *_new[1:]):
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if it is empty
    _new.clear()
