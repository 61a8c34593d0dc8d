"""`einthoven probe`: how much of some labels the embeddings of a run contain, compared with random encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from einthoven.machine import limit_threads
from einthoven.terminal.display import warn_unsent
from einthoven.terminal.hydra_command import HydraCommand
from einthoven.tracking.unsent import collect_unsent

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(arguments: list[str]) -> int:
    """Probe the run that the arguments name.

    The exit code is 3 if the tracking store does not have all of the results.
    """
    command = HydraCommand("probe", arguments)

    def job(config: DictConfig) -> None:
        with command.job_errors():
            command.trust_config(config)
            from einthoven.runs.evaluation.probe import probe

            limit_threads()
            probe(config)

    with collect_unsent() as unsent, command.errors():
        command.decorate(job)()
    return warn_unsent(unsent)
