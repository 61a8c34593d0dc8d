"""Hydra's callback for sweeps. Each `einthoven train` creates it, so this module imports `parent` in a sweep only."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from einthoven.build import trust_named
from einthoven.errors import UserError, store_sentence
from einthoven.runs.config.next_commands import hydra_options
from einthoven.terminal.hydra_command import CallbackError
from einthoven.terminal.mistakes import sentence
from einthoven.tracking.parent_run import PARENT
from einthoven.training.launch import read_launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


_GRID_SWEEPER = "hydra_plugins.einthoven_search.GridSweeper"
"""The sweeper that composes each run once. Hydra makes the sweeper after `on_multirun_start`."""


class SweepCallback(Callback):
    """Opens the parent run before the runs of a sweep, and writes the comparison of the runs into it at the end."""

    def __init__(self) -> None:
        self._run_id: str | None = None
        self._start_time = 0  # milliseconds since 1970, as in MLflow

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open a parent run, or continue that of an earlier command for the same sweep.

        Raises a `CallbackError` if the sweep cannot run.
        """
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.hydra_config import HydraConfig
        from hydra.errors import HydraException
        from omegaconf import read_write
        from omegaconf.errors import OmegaConfBaseException

        from einthoven.sweeps.parent import open_sweep
        from einthoven.sweeps.space import usual_sweeper

        launch = read_launch()
        if launch is not None and launch.size > 1:
            raise CallbackError(
                f"a sweep trains several networks, and torchrun has started {launch.size} processes, which train one "
                "network together; expected a sweep in one process, or one run without -m."
            )

        # Names in the configuration refer to Hydra's own configuration.
        HydraConfig.instance().set_config(config)
        trust_named(config)
        self._start_time = int(time.time() * 1000)
        try:
            self._run_id = open_sweep(config, GlobalHydra.instance().config_loader())
        except UserError as error:
            raise CallbackError(str(error)) from None
        except (HydraException, OmegaConfBaseException) as error:
            (conf,) = (source.path for source in config.hydra.runtime.config_sources if source.provider == "main")
            arguments = [*hydra_options(config.hydra), *config.hydra.overrides.task]
            # `sentence` composes a configuration, which needs a new Hydra.
            GlobalHydra.instance().clear()
            raise CallbackError(sentence(error, Path(conf), "train", arguments)) from None
        # An option of the primary yaml would win over `override /hydra/sweeper` in a yaml of conf/sweep/.
        if config.hydra.sweeper._target_ == usual_sweeper():
            with read_write(config.hydra):
                config.hydra.sweeper._target_ = _GRID_SWEEPER
        # The runs of the sweep, also those in other processes, find their parent here.
        os.environ[PARENT] = self._run_id

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the comparison of the runs, and close the parent run.

        Raises a `CallbackError` if a run failed, the figure of ``figure=…`` cannot be drawn, or the store does not
        answer.
        """
        from einthoven.sweeps.parent import conclude_sweep

        assert self._run_id is not None
        try:
            mistakes = conclude_sweep(config, self._run_id, self._start_time)
        except Exception as error:
            # The parent run stays open, so that the same command goes on with it.
            reason = str(error) if isinstance(error, UserError) else store_sentence(error)
            if reason is None:
                raise
            raise CallbackError(f"the runs of the sweep have ended, but cannot be compared. {reason}") from None
        os.environ.pop(PARENT, None)
        if mistakes:
            raise CallbackError("\n".join(mistakes))
