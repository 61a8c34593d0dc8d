"""The parent run of a sweep. It shows the best value, tables and pictures; a repeated command continues it."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from einthoven.command_line import command
from einthoven.errors import UserError
from einthoven.report.option_importance import option_importance_figure
from einthoven.report.parallel_coordinates import parallel_coordinates_figure
from einthoven.report.sweep_note import (
    MEANS_COMPARED,
    METRICS,
    Group,
    answering_metrics,
    best_group,
    compared_by,
    group_by_seed,
    name_of_mean,
    note,
    repeated,
    rows,
)
from einthoven.runs.comparison.compared_figure import draw_figure
from einthoven.runs.config.identity import code_hash, logged_overrides
from einthoven.runs.config.next_commands import as_typed, hydra_options, report_command, ui_command
from einthoven.runs.config.parameters import chosen_options
from einthoven.sweeps.space import varied
from einthoven.terminal.display import console, results_table, say, say_if_any, say_next
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.recorder import NOTE_TAG
from einthoven.tracking.server import client, without_password
from einthoven.tracking.sweep import (
    OVERRIDES,
    SWEEP,
    VARIED,
    children,
    close_leftovers,
    differing_options,
    open_parent,
    overrides,
    put_table,
)
from einthoven.tracking.usual_store import origin_of_store

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun
    from omegaconf import DictConfig

_NOT_IN_KEY = ("again", "tracking")
"""Options in which two commands may differ and still be the same sweep."""


def open_sweep(config: DictConfig, loader: ConfigLoader) -> str:
    """Open the parent run of a sweep, or continue that of an earlier command, and return its id.

    Raises a `UserError` if the sweep cannot run.
    """
    if config.tracking.offline:
        raise UserError("tracking.offline=true: a sweep compares runs in the store; expected false.")
    say_if_any(origin_of_store(config.tracking.uri))
    typed_options = logged_overrides(config.hydra.overrides.task)
    hydra_overrides = [option for option in config.hydra.overrides.hydra if not option.startswith("hydra.mode=")]
    values, modules = varied(config, loader)
    words = ["einthoven train", "" if _is_mode_in_yaml() else "-m", typed_options, logged_overrides(hydra_overrides)]
    tags = {
        "mlflow.source.name": " ".join(word for word in words if word),
        "mlflow.source.type": "LOCAL",
        OVERRIDES: typed_options,
        SWEEP: _key(config, modules),
        VARIED: " ".join(values),
    }
    parameters = {**chosen_options(config.hydra), "seed": str(config.seed)}
    parameters |= {name: without_folders(value) for name, value in values.items()}
    run_name = f"sweep {typed_options}"[:250]
    run_id, is_continued = open_parent(config.tracking, run_name, tags, parameters, config.again)
    if is_continued:
        say(f"This command continues an earlier sweep. Its parent run in MLflow is {run_id}.")
    return run_id


def conclude_sweep(config: DictConfig, run_id: str, start_time: int) -> list[str]:
    """Write the comparison of the runs into the parent run, and close it. The command was started at `start_time` (ms).

    Return sentences about runs that failed, and about a figure that cannot be drawn.
    """
    tracking = client(config.tracking.uri)
    close_leftovers(tracking, run_id)
    runs = children(tracking, run_id)
    finished = [run for run in runs if run.info.status == "FINISHED"]
    failed = [run for run in runs if run.info.status != "FINISHED"]
    from_earlier_command = sum(run.info.end_time < start_time for run in finished)
    counts = {
        "trained": len(finished) - from_earlier_command,
        "trained earlier": from_earlier_command,
        "failed": len(failed),
    }
    metrics_of_runs = {run.info.run_id: answering_metrics(run.data.metrics) for run in runs}
    groups = group_by_seed([(overrides(run), run.info.status, metrics_of_runs[run.info.run_id]) for run in runs])

    mistakes = []
    if failed:
        mistakes.append(_failed_sentence(failed, len(runs), run_id))
    _write_results(tracking, run_id, groups, runs, counts, config.hydra, metrics_of_runs)
    _draw_options(tracking, run_id, finished, metrics_of_runs)
    if "figure" in config and finished:
        try:
            draw_figure(config, tracking, run_id, finished)
        except UserError as error:
            mistakes.append(str(error))
    if _has_means(runs):
        say(MEANS_COMPARED.replace("`", ""))
    _show_results(config, run_id, groups, counts)
    tracking.set_terminated(run_id, "FAILED" if mistakes else "FINISHED")
    return mistakes


def _is_mode_in_yaml() -> bool:
    """Return whether a recipe asks for several runs, and not the command line."""
    return not {"-m", "--multirun"} & set(sys.argv)


def _key(config: DictConfig, modules: tuple[str, ...]) -> str:
    """Return a hash of what makes a sweep: the options that it fixes, those that it varies, and the source code."""
    from omegaconf import OmegaConf

    options = OmegaConf.to_container(config, resolve=False)
    assert isinstance(options, dict)
    hydra = options.pop("hydra")
    # A search with more trials continues the same sweep.
    sweeper = {name: value for name, value in hydra["sweeper"].items() if name != "trials"}
    fixed = {name: value for name, value in options.items() if name not in _NOT_IN_KEY}
    typed = [option for option in config.hydra.overrides.task if not option.startswith(_NOT_IN_KEY)]
    content = json.dumps([fixed, sweeper, typed, code_hash(modules)], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _failed_sentence(failed: Sequence[MlflowRun], run_count: int, parent: str) -> str:
    """Return how many runs failed, why the first one failed, and what to do."""
    reason = failed[0].data.tags.get("error", f"it ended as {failed[0].info.status}").rstrip(".")
    return (
        f"{len(failed)} of {run_count} runs failed, the first ({overrides(failed[0])}) by {reason}. They are "
        f"marked below run {parent}; the same command runs them again, and no other."
    )


def _write_results(
    tracking: MlflowClient,
    run_id: str,
    groups: Sequence[Group],
    runs: Sequence[MlflowRun],
    counts: dict[str, int],
    hydra: DictConfig,
    metrics_of_runs: Mapping[str, Mapping[str, float]],
) -> None:
    """Write the tables, the best value and the note of the parent run. `metrics_of_runs` are given by the ids."""
    columns, cells = rows(groups)
    put_table(tracking, run_id, "results.json", columns, cells)
    metrics = [metric for metric in METRICS if any(metric in of_run for of_run in metrics_of_runs.values())]
    run_cells = []
    for run in runs:
        values = [metrics_of_runs[run.info.run_id].get(metric) for metric in metrics]
        run_cells.append([run.info.run_id, run.info.status, overrides(run), *values])
    put_table(tracking, run_id, "runs.json", ["run", "status", "options", *metrics], run_cells)
    if not groups:
        return

    best = best_group(groups)
    best_command = None
    if best is not None:
        for metric in METRICS:
            for name, value in ((metric, best.mean(metric)), (f"{metric}_sd", best.sd(metric))):
                if not math.isnan(value):
                    tracking.log_metric(run_id, name, value)
        tracking.set_tag(run_id, "best", best.overrides)
        best_options = [shlex.split(options) for options in best.given]
        again = _command_again(best_options, [without_folders(word) for word in hydra_options(hydra)])
        # The note does not say where the program is installed.
        best_command = shlex.join(["einthoven", *shlex.split(again)[1:]])
    elif "best" in tracking.get_run(run_id).data.tags:
        # The tag is that of an earlier command for the same sweep.
        tracking.delete_tag(run_id, "best")
    errors = {overrides(run): run.data.tags["error"] for run in runs if "error" in run.data.tags}
    text = note(groups, counts, best_command, errors, has_means=_has_means(runs))
    tracking.set_tag(run_id, NOTE_TAG, text)


def _has_means(runs: Sequence[MlflowRun]) -> bool:
    """Return whether a run has a mean (``mean_with``), by which it is compared."""
    return any(name_of_mean(metric) in run.data.metrics for run in runs for metric in METRICS)


def _draw_options(
    tracking: MlflowClient,
    run_id: str,
    runs: Sequence[MlflowRun],
    metrics_of_runs: Mapping[str, Mapping[str, float]],
) -> None:
    """Draw how the options change the metric, if several options and values can be compared."""
    metric = compared_by([metrics_of_runs[run.info.run_id] for run in runs])
    measured_runs = [run for run in runs if math.isfinite(metrics_of_runs[run.info.run_id].get(metric, math.nan))]
    values = np.array([metrics_of_runs[run.info.run_id][metric] for run in measured_runs])
    options_of_runs = differing_options(measured_runs)
    names = {name for options in options_of_runs for name in options}
    if not names or np.ptp(values) == 0:
        return
    figures = {"parallel_coordinates": parallel_coordinates_figure(options_of_runs, values, metric=metric)}
    if len(names) > 1:
        figures["importance"] = option_importance_figure(options_of_runs, values, metric=metric)
    for name, figure in figures.items():
        tracking.log_figure(run_id, figure, f"sweep/{name}.png", save_kwargs={"dpi": 150})


def _show_results(config: DictConfig, run_id: str, groups: Sequence[Group], counts: dict[str, int]) -> None:
    """Print the table of the sweep, and commands to continue with."""
    columns, cells = rows(groups)
    listed_counts = ", ".join(f"{count} {name}" for name, count in counts.items())
    console.print(results_table(f"{sum(counts.values())} runs: {listed_counts}", columns, cells))
    say(f"The sweep is run {run_id} in {without_password(config.tracking.uri)}.")
    commands = [(ui_command(config.tracking.uri), "look at the sweep in MLflow")]
    if counts["trained"] + counts["trained earlier"]:
        commands.append((report_command(run_id, config.tracking.uri), "write one page that compares its runs"))
    best = best_group(groups)
    if best is not None:
        typed_options = [as_typed(shlex.split(options), config.hydra.overrides.task) for options in best.given]
        known_options = [options for options in typed_options if options is not None]
        if len(known_options) == len(typed_options):
            again = _command_again(known_options, hydra_options(config.hydra))
            commands.append((again, "train the best configuration again"))
    say_next(commands)


def _command_again(options_of_runs: Sequence[Sequence[str]], hydra: Sequence[str]) -> str:
    """Return the command that runs a configuration again with its seeds, from all options of each run and Hydra's."""
    options, is_sweep = repeated(options_of_runs, mode_in_yaml=_is_mode_in_yaml())
    flags = ["-m"] if is_sweep else []
    return command("train", *flags, *hydra, *options)
