"""Draw the figure of ``figure=…``, which compares the runs of a sweep or shows one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from einthoven.build import build
from einthoven.report.trials import Trial
from einthoven.terminal.display import say
from einthoven.tracking.server import without_password
from einthoven.tracking.sweep import arrays, differing_options, history

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun
    from omegaconf import DictConfig


def draw_figure(config: DictConfig, tracking: MlflowClient, run_id: str, runs: Sequence[MlflowRun]) -> None:
    """Draw the figure of ``figure=…`` from some runs, and log it to the run `run_id`."""
    trials = []
    for options, run in zip(differing_options(runs), runs, strict=True):
        trials.append(Trial(options, run.data.params, history(tracking, run), arrays(tracking, run)))
    function = build(config.figure)
    path = f"figures/{function.func.__name__}.png"
    tracking.log_figure(run_id, function(trials), path, save_kwargs={"dpi": 150})
    say(f"The figure is {path} in run {run_id} of {without_password(config.tracking.uri)}.")
