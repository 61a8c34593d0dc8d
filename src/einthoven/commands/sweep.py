"""A sweep: the parent run of its jobs, with their table and, where one is chosen, their figure."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from einthoven.build import build
from einthoven.commands.terminal import console
from einthoven.errors import UserError
from einthoven.report.trials import Trial
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.server import client, experiment_id, shown
from einthoven.tracking.sweep import (
    METRICS,
    PARENT,
    arrays,
    children,
    differing,
    group_by_seed,
    history,
    overrides,
    report,
    rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun
    from omegaconf import DictConfig


mistakes: list[str] = []
"""Sentences for the user from a callback: Hydra makes a warning of an exception that leaves one."""


class SweepCallback(Callback):
    """Opens the parent run before the jobs of a multirun, and writes table and figure into it after them."""

    def __init__(self) -> None:
        self._run_id: str | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run."""
        from hydra.core.hydra_config import HydraConfig

        HydraConfig.instance().set_config(config)  # the names in the configuration refer to it
        given = without_folders(" ".join(config.hydra.overrides.task))
        multirun = "" if {"experiment", "sweep"} & {o.split("=")[0] for o in config.hydra.overrides.task} else "-m "
        tracking = client(config.tracking.uri)
        run = tracking.create_run(
            experiment_id(tracking, config.tracking.experiment, config.tracking.artifact_location),
            run_name=f"sweep {given}"[:250],
            tags={
                "mlflow.source.name": f"einthoven train {multirun}{given}",
                "mlflow.source.type": "LOCAL",
                "einthoven.overrides": given,
            },
        )
        self._run_id = os.environ[PARENT] = run.info.run_id

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table and the figure, and close the parent run."""
        assert self._run_id is not None
        tracking = client(config.tracking.uri)
        runs = children(tracking, self._run_id)
        groups = group_by_seed([(overrides(run), run.info.status, run.data.metrics) for run in runs])
        columns, cells = rows(groups)
        report(tracking, self._run_id, columns, cells)
        if groups:
            for metric in METRICS:
                for name, value in ((metric, groups[0].mean(metric)), (f"{metric}_sd", groups[0].sd(metric))):
                    if not math.isnan(value):
                        tracking.log_metric(self._run_id, name, value)
            tracking.set_tag(self._run_id, "best", groups[0].overrides)
        failed = any(group.failed for group in groups)
        if "figure" in config:
            try:
                draw(config, tracking, self._run_id, [run for run in runs if run.info.status == "FINISHED"])
            except UserError as error:
                mistakes.append(str(error))
                failed = True
        tracking.set_terminated(self._run_id, "FAILED" if failed else "FINISHED")
        os.environ.pop(PARENT, None)


def draw(config: DictConfig, tracking: MlflowClient, run_id: str, runs: Sequence[MlflowRun]) -> None:
    """Draw the figure of ``figure=…`` from some runs, and log it to the run `run_id`."""
    trials = [
        Trial(options, run.data.params, history(tracking, run), arrays(tracking, run))
        for options, run in zip(differing(runs), runs, strict=True)
    ]
    function = build(config.figure)
    path = f"figures/{function.func.__name__}.png"
    tracking.log_figure(run_id, function(trials), path, save_kwargs={"dpi": 150})
    console.print(f"{path} in run {run_id} of {shown(config.tracking.uri)}", soft_wrap=True)
