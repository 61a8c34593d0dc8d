"""A sweep: the parent run of its jobs, with best value, table and pictures; the same sweep goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.experimental.callback import Callback

from einthoven.build import trust_named
from einthoven.command_line import command
from einthoven.errors import UserError
from einthoven.report.option_importance import option_importance_figure
from einthoven.report.parallel_coordinates import parallel_coordinates_figure
from einthoven.report.sweep_note import METRICS, Group, best_group, compared_by, group_by_seed, note, repeated, rows
from einthoven.runs.compared_figure import draw
from einthoven.runs.identity import code_hash, shown_overrides
from einthoven.runs.next_commands import as_typed, hydra_options, report_command, ui_command
from einthoven.runs.parameters import chosen_options
from einthoven.sweeps.space import varied
from einthoven.terminal.display import console, results_table, say, say_next
from einthoven.terminal.mistakes import sentence
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.server import client, shown
from einthoven.tracking.sweep import (
    PARENT,
    SWEEP,
    VARIED,
    children,
    close_leftovers,
    differing,
    open_parent,
    overrides,
    put_note,
    put_table,
)

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun
    from omegaconf import DictConfig


mistakes: list[str] = []
"""Sentences for the user from a callback: Hydra makes a warning of an exception that leaves one."""

_UNSAID = ("again", "tracking")  # in what a sweep may differ and still be the same


class SweepCallback(Callback):
    """Opens the parent run before the jobs of a multirun, and tells in it after them what they have shown."""

    def __init__(self) -> None:
        self._run_id: str | None = None
        self._start = 0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Open the parent run, or that of the same sweep before."""
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.hydra_config import HydraConfig
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        HydraConfig.instance().set_config(config)  # the names in the configuration refer to it
        trust_named(config)
        self._start = int(time.time() * 1000)
        try:
            self._run_id = os.environ[PARENT] = _open_parent(config, GlobalHydra.instance().config_loader())
        except UserError as error:
            mistakes.append(str(error))
            raise SystemExit(2) from None
        except (HydraException, OmegaConfBaseException) as error:
            (conf,) = (source.path for source in config.hydra.runtime.config_sources if source.provider == "main")
            given = [*hydra_options(config.hydra), *config.hydra.overrides.task]
            GlobalHydra.instance().clear()  # the sentence composes anew
            mistakes.append(sentence(error, Path(conf), "train", given))
            raise SystemExit(2) from None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write what came out, and close the parent run."""
        assert self._run_id is not None
        tracking = client(config.tracking.uri)
        close_leftovers(tracking, self._run_id)
        runs = children(tracking, self._run_id)
        failed = [run for run in runs if run.info.status != "FINISHED"]
        if failed:
            mistakes.append(_told(failed, len(runs), self._run_id))
        finished = [run for run in runs if run.info.status == "FINISHED"]
        groups = group_by_seed([(overrides(run), run.info.status, run.data.metrics) for run in runs])
        found = sum(run.info.end_time < self._start for run in finished)
        counts = {"trained": len(finished) - found, "found again": found, "failed": len(failed)}
        _write(tracking, self._run_id, groups, runs, counts, config.hydra)
        _draw_options(tracking, self._run_id, finished)
        undrawn = 0
        if "figure" in config and finished:
            try:
                draw(config, tracking, self._run_id, finished)
            except UserError as error:
                mistakes.append(str(error))
                undrawn = 1
        _say(config, tracking, self._run_id, groups, counts)
        tracking.set_terminated(self._run_id, "FAILED" if failed or undrawn else "FINISHED")
        os.environ.pop(PARENT, None)


def _open_parent(config: DictConfig, loader: ConfigLoader) -> str:
    if config.tracking.offline:
        raise UserError("tracking.offline=true: a sweep compares runs in the store; expected false.")
    given = shown_overrides(config.hydra.overrides.task)
    plugins = shown_overrides([o for o in config.hydra.overrides.hydra if not o.startswith("hydra.mode=")])
    values, modules = varied(config, loader)
    words = ["einthoven train", "" if _mode_in_yaml() else "-m", given, plugins]
    tags = {
        "mlflow.source.name": " ".join(word for word in words if word),
        "mlflow.source.type": "LOCAL",
        "einthoven.overrides": given,
        SWEEP: _key(config, modules),
        VARIED: " ".join(values),
    }
    parameters = {**chosen_options(config.hydra), "seed": str(config.seed)}
    parameters |= {name: without_folders(value) for name, value in values.items()}
    run_id, before = open_parent(config.tracking, f"sweep {given}"[:250], tags, parameters, config.again)
    if before:
        console.print(f"this sweep has a parent run, and goes on below it: {run_id}")
    return run_id


def _mode_in_yaml() -> bool:
    """Whether a recipe asks for several runs, not the command line."""
    return not {"-m", "--multirun"} & set(sys.argv)


def _key(config: DictConfig, modules: tuple[str, ...]) -> str:
    """The same for the same sweep: what it fixes, what it varies, and the source that it runs."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    hydra = plain.pop("hydra")
    sweeper = {name: value for name, value in hydra["sweeper"].items() if name != "trials"}
    fixed = {name: value for name, value in plain.items() if name not in _UNSAID}
    given = [o for o in config.hydra.overrides.task if not o.startswith(_UNSAID)]
    content = json.dumps([fixed, sweeper, given, code_hash(modules)], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _told(failed: Sequence[MlflowRun], runs: int, parent: str) -> str:
    first = failed[0].data.tags.get("error", f"it ended as {failed[0].info.status}")
    return (
        f"{len(failed)} of {runs} runs failed, the first ({overrides(failed[0])}) by {first.rstrip('.')}. They are "
        f"marked below run {parent}; the same command runs them again, and no other."
    )


def _write(
    tracking: MlflowClient,
    run_id: str,
    groups: Sequence[Group],
    runs: Sequence[MlflowRun],
    counts: dict[str, int],
    hydra: DictConfig,
) -> None:
    """Best value, note and tables, on the parent run."""
    columns, cells = rows(groups)
    put_table(tracking, run_id, "results.json", columns, cells)
    metrics = [metric for metric in METRICS if any(metric in run.data.metrics for run in runs)]
    put_table(
        tracking,
        run_id,
        "runs.json",
        ["run", "status", "options", *metrics],
        ([run.info.run_id, run.info.status, overrides(run), *map(run.data.metrics.get, metrics)] for run in runs),
    )
    if not groups:
        return
    best = best_group(groups)
    again = None
    if best is not None:
        for metric in METRICS:
            for name, value in ((metric, best.mean(metric)), (f"{metric}_sd", best.sd(metric))):
                if not math.isnan(value):
                    tracking.log_metric(run_id, name, value)
        tracking.set_tag(run_id, "best", best.overrides)
        again = _again([shlex.split(each) for each in best.given], _without_folders(hydra_options(hydra)))
    elif "best" in tracking.get_run(run_id).data.tags:  # of the same sweep before
        tracking.delete_tag(run_id, "best")
    errors = {overrides(run): run.data.tags["error"] for run in runs if "error" in run.data.tags}
    put_note(tracking, run_id, note(groups, counts, again, errors))


def _draw_options(tracking: MlflowClient, run_id: str, runs: Sequence[MlflowRun]) -> None:
    """Pictures of which option made what of the runs, where there is something to compare."""
    metric = compared_by([run.data.metrics for run in runs])
    judged = [run for run in runs if math.isfinite(run.data.metrics.get(metric, math.nan))]
    options, values = differing(judged), np.array([run.data.metrics[metric] for run in judged])
    varied = {name for each in options for name in each}
    if varied and np.ptp(values) > 0:
        place = "sweep/{}.png".format
        figure = parallel_coordinates_figure(options, values, metric=metric)
        tracking.log_figure(run_id, figure, place("parallel_coordinates"), save_kwargs={"dpi": 150})
        if len(varied) > 1:
            figure = option_importance_figure(options, values, metric=metric)
            tracking.log_figure(run_id, figure, place("importance"), save_kwargs={"dpi": 150})


def _say(
    config: DictConfig, tracking: MlflowClient, run_id: str, groups: Sequence[Group], counts: dict[str, int]
) -> None:
    """The table, and what to do next, on the terminal."""
    columns, cells = rows(groups)
    title = f"{sum(counts.values())} runs: {', '.join(f'{count} {name}' for name, count in counts.items())}"
    console.print(results_table(title, columns, cells))
    say(f"run {run_id} in {shown(config.tracking.uri)}")
    commands = [(ui_command(config.tracking.uri), "look at the sweep in MLflow")]
    if counts["trained"] + counts["found again"]:
        commands.append((report_command(run_id, config.tracking.uri), "its runs on one page"))
    best = best_group(groups)
    if best is not None:
        typed = [as_typed(shlex.split(each), config.hydra.overrides.task) for each in best.given]
        known = [each for each in typed if each is not None]
        if len(known) == len(typed):
            commands.append((_again(known, hydra_options(config.hydra)), "run the best again"))
    say_next(commands)


def _again(given: Sequence[Sequence[str]], hydra: Sequence[str]) -> str:
    """The command that runs a configuration again, with its seeds."""
    options, several = repeated(given, mode_in_yaml=_mode_in_yaml())
    return command("train", *(["-m"] if several else []), *hydra, *options)


def _without_folders(words: Sequence[str]) -> list[str]:
    return [without_folders(word) for word in words]
