"""Hydra makes the folder of a run before the run can be refused. Folders that stay empty are removed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

if TYPE_CHECKING:
    from omegaconf import DictConfig


class NewFolders(Callback):
    """Removes the folders that a run or a sweep has made and left empty. Folders from before the command stay."""

    def __init__(self) -> None:
        # Folders that do not exist yet: the folder of the run or sweep, and its parents, the innermost first.
        self._new: list[Path] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note which folders a run will make."""
        self._note(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note which folders a sweep will make."""
        self._note(config, "sweep")

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Remove the folders that the run has left empty."""
        self._remove_empty()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Remove the folders that the sweep and its runs have left empty."""
        self._remove_empty()

    def _note(self, config: DictConfig, kind: str) -> None:
        from hydra.core.hydra_config import HydraConfig

        # The name of the folder refers to Hydra's own configuration.
        HydraConfig.instance().set_config(config)
        folder = Path(config.hydra[kind].dir).absolute()
        self._new = [place for place in (folder, *folder.parents) if not place.exists()]

    def _remove_empty(self) -> None:
        if not self._new:
            return
        # The innermost folder belongs to this command alone, so all empty folders in it are removed.
        inside = [Path(place) for place, *_ in os.walk(self._new[0], topdown=False)]
        for folder in (*inside, *self._new[1:]):
            # `rmdir` removes a folder only if it is empty.
            with contextlib.suppress(OSError):
                folder.rmdir()
