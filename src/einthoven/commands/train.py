"""`einthoven train`: one training run, a cross-validation, or a sweep of runs, logged to MLflow."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.files import seen_from_here
from einthoven.machine import import_large, keep_freed_memory, limit_threads
from einthoven.runs.config.settings import read_settings
from einthoven.terminal.display import after_first_line, say_if_any, warn_unsent
from einthoven.terminal.hydra_command import HydraCommand
from einthoven.tracking.parent_run import PARENT, abandon
from einthoven.tracking.unsent import collect_unsent
from einthoven.tracking.usual_store import origin_of_store
from einthoven.training.launch import read_launch

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(arguments: list[str]) -> int:
    """Train as the arguments say. The exit code is 3 if a tracking store does not have all of a run."""
    launch = read_launch()
    if launch is not None and launch.rank > 0:
        # Hydra makes the folder of a run. This process writes nothing, so that it gets one that exists.
        others = [argument for argument in arguments if not argument.startswith("hydra.run.dir=")]
        arguments = [*others, "hydra.run.dir=."]
    command = HydraCommand("train", arguments, variables=[PARENT])

    def job(config: DictConfig) -> dict[str, float]:
        from hydra.core.hydra_config import HydraConfig

        # A launcher may run this function in another process.
        keep_freed_memory()

        with command.job_errors(), after_first_line():
            command.trust_config(config)
            hydra = HydraConfig.get()
            folder = seen_from_here(Path(hydra.runtime.output_dir))
            overrides = list(hydra.overrides.task)
            if PARENT in os.environ:
                from einthoven.sweeps.child import child

                limit_threads()
                return child(config, folder, overrides)
            is_first_process = launch is None or launch.rank == 0
            if config.resume is None and not config.tracking.offline and is_first_process:
                say_if_any(origin_of_store(config.tracking.uri))
            # Refuse a wrong value before this import, which takes seconds.
            read_settings(config)
            import_large("einthoven.runs.train_one")
            from einthoven.runs.train_one import train_one, train_together

            limit_threads()
            if launch is not None:
                return train_together(launch, config, folder, overrides)
            return train_one(config, folder, overrides)
        return {}

    status = "FAILED"
    try:
        with collect_unsent() as unsent, command.errors():
            command.decorate(job)()
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        # The parent run of a sweep is still open if the sweep did not reach its end.
        if PARENT in os.environ:
            abandon(status)
            print("einthoven: The sweep has not ended. The same command continues it.", file=sys.stderr)
    return warn_unsent(unsent)
