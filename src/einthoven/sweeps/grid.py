"""A Hydra sweeper that takes all combinations of the given values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.atomic import write_text
from einthoven.errors import UserError
from einthoven.sweeps.launching import LaunchingSweeper
from einthoven.sweeps.space import choices, read

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn


class Grid(LaunchingSweeper):
    """All combinations of the given values, in their order. Same parameters and runs as Hydra's own sweeper.

    Hydra's sweeper would compose each run twice: before the first run, to find mistakes, and to start it.
    `einthoven.sweeps.space.varied` has composed every chosen part already.

    Parameters
    ----------
    max_batch_size : int or None
        Most runs that the launcher gets at once; None: all of them.
    params : mapping, optional
        Option -> its values, separated by commas.
    """

    def __init__(self, max_batch_size: int | None = None, params: Mapping[str, Any] | None = None) -> None:
        self._max_batch_size = max_batch_size
        self._params = dict(params or {})

    def sweep(self, arguments: list[str]) -> list[list[JobReturn]]:
        """Run all combinations. An argument replaces the option of the same name in `params`.

        The configuration of the sweep is written to ``multirun.yaml`` in its folder first, as Hydra's sweeper does.
        Raises a `UserError` if the values of an option cannot be counted, or the size of a batch is not positive.
        """
        size = self._max_batch_size
        if size is not None and size < 1:
            raise UserError(f"hydra.sweeper.max_batch_size={size}: expected a whole number, 1 or more, or null.")
        values = []
        for name, override in read(self._params, arguments, self.context.config_loader).items():
            values.append([f"{name}={value}" for value in choices(override)])
        runs = [list(run) for run in itertools.product(*values)]
        self._write_config()
        returns = []
        for first in range(0, len(runs), size or len(runs)):
            batch = self.launcher.launch(runs[first : first + (size or len(runs))], initial_job_idx=first)
            for job in batch:
                # Reading the value raises the error of a job that failed.
                _ = job.return_value
            returns.append(list(batch))
        return returns

    def _write_config(self) -> None:
        from omegaconf import OmegaConf

        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "multirun.yaml", OmegaConf.to_yaml(self.config))
