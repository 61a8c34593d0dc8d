"""What both sweepers of einthoven need from Hydra, of its public classes only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.plugins.sweeper import Sweeper

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


class LaunchingSweeper(Sweeper):
    """A sweeper with the launcher that the user has chosen.

    Attributes
    ----------
    context : HydraContext
        It has the loader that composes the runs.
    config : DictConfig
        The configuration of the sweep, with its ``hydra`` node.
    """

    launcher: Launcher
    context: HydraContext
    config: DictConfig

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Create the launcher. Hydra calls this before `sweep`."""
        from hydra.core.plugins import Plugins

        self.context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
