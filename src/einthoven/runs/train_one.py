"""`einthoven train`: one training run, or a cross-validation, logged to MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.command_line import command, train_command
from einthoven.contracts import ONE_PROCESS, Processes, TaskKind
from einthoven.errors import UserError
from einthoven.predict.model_folder import BUNDLE
from einthoven.report.metric_text import SPLIT_WORDS, metric_text
from einthoven.runs import feature_run
from einthoven.runs.base.read_base import with_base
from einthoven.runs.comparison.compared_figure import draw_figure
from einthoven.runs.config.next_commands import (
    bundle_commands,
    evaluate_command,
    hydra_options,
    init_from_command,
    ui_command,
    without,
)
from einthoven.runs.config.run_name import with_trainer_name, without_optimizer_name
from einthoven.runs.config.settings import Settings, check_settings, is_feature_model
from einthoven.runs.folder.trained_run import open_started
from einthoven.runs.folds.cross_validation import cross_validate, resume_folds
from einthoven.runs.mean_members import with_members
from einthoven.runs.network.compiling import refuse_without_compiler
from einthoven.runs.network.teachers import with_teachers
from einthoven.runs.results.example_record import example_record
from einthoven.runs.results.mean_evaluation import MEAN, NETWORK
from einthoven.runs.results.results_in_words import member_names
from einthoven.runs.resume import open_interrupted, refuse_other_overrides, send_rest
from einthoven.runs.run import Run
from einthoven.runs.session import training_session
from einthoven.runs.start import assemble_run, claim_folder, is_named_by_user, open_recorder, write_start
from einthoven.runs.together import (
    follow,
    is_begun_with,
    joined,
    refuse_alone_only,
    refuse_forgotten_folder,
    trust_own_addresses,
    uses_gpus,
)
from einthoven.terminal.display import console, results_table, say, say_next
from einthoven.tracking.closing import closing
from einthoven.tracking.database import require_writable
from einthoven.tracking.parent_run import PARENT
from einthoven.tracking.places import trusted_for
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import client, reach, without_password
from einthoven.training.launch import Launch
from einthoven.training.precision import choose_device

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.table import Table


_OF_THIS_RUN = ("trainer.profile",)
"""Options that the commands to try next do not repeat."""


def train_together(launch: Launch, config: DictConfig, folder: Path, overrides: list[str]) -> dict[str, float]:
    """Train as configured, together with the other processes that torchrun has started. There may be none.

    Return the final metrics in the first process, and nothing in the others.
    """
    if launch.size == 1:
        return _begin_or_continue(launch, config, folder, overrides, ONE_PROCESS)
    with joined(launch, uses_gpus=uses_gpus(config)) as processes:
        if processes.rank > 0:
            if config.resume is None:
                trust_own_addresses(config)
            follow(processes)
            return {}
        if config.resume is None:
            refuse_alone_only(config, processes.size)
        return _begin_or_continue(launch, config, folder, overrides, processes)


def _begin_or_continue(
    launch: Launch, config: DictConfig, folder: Path, overrides: list[str], processes: Processes
) -> dict[str, float]:
    """Train as configured. Continue the run if torchrun has started it before."""
    if config.resume is None:
        refuse_forgotten_folder(launch, is_named_by_user())
        # torchrun has started all processes again, because one has ended. `train_one` refuses another run.
        if launch.restarts and is_begun_with(folder, overrides):
            trust_own_addresses(config)
            return _resume(folder, overrides, processes)
    return train_one(config, folder, overrides, processes)


def train_one(
    config: DictConfig, folder: Path, overrides: list[str], processes: Processes = ONE_PROCESS
) -> dict[str, float]:
    """Train a new run as configured, or continue the one that is named by ``resume``. Return the final metrics.

    `folder` is for the configuration and checkpoints of the run. The overrides of the command line name the run in a
    sweep. The processes train the run together.
    """
    if config.resume is not None:
        refuse_other_overrides(Path(config.resume), overrides)
        return _resume(Path(config.resume), overrides, processes)

    # Check everything before any data are read.
    config, settings = _checked(with_members(with_teachers(with_base(config, overrides))), overrides)
    if not settings.tracking.offline:
        reach(settings.tracking.uri)
        require_writable(settings.tracking.uri)
    if settings.folds.cross_validate:
        return cross_validate(config, folder, overrides)

    parent = os.environ.get(PARENT)
    with claim_folder(folder) as (folder, lock):
        new_run = assemble_run(config, folder, processes, settings)
        write_start(new_run, overrides)
        recorder = open_recorder(new_run, settings.tracking.run_name, overrides, parent=parent, lock=lock)
        with closing(recorder), training_session(new_run, recorder) as session:
            session.fit()

    # The parent run of a sweep shows the results of all runs instead.
    if parent is None:
        if "figure" in config and not recorder.unsent and not settings.tracking.offline:
            tracking = client(recorder.uri)
            draw_figure(config, tracking, recorder.run_id, [tracking.get_run(recorder.run_id)])
        _show_end(new_run, recorder, session.metrics, overrides)
    return session.metrics


def _resume(folder: Path, overrides: list[str], processes: Processes) -> dict[str, float]:
    """Continue an interrupted run, and return the final metrics."""
    config = open_started(folder)
    if processes.size > 1:
        refuse_alone_only(config, processes.size)
    if send_rest(folder):
        return {}
    if config.data.folds.get("cross_validate"):
        return resume_folds(config, folder)
    run, recorder = open_interrupted(folder, config, processes)
    with closing(recorder), training_session(run, recorder) as session:
        session.fit()
    _show_end(run, recorder, session.metrics, overrides)
    return session.metrics


def _checked(config: DictConfig, overrides: list[str]) -> tuple[DictConfig, Settings]:
    """Refuse wrong options and those without an effect on this kind of run.

    Return the configuration, with the name of the run, and its settings.
    """
    config = with_trainer_name(config)
    settings = check_settings(config)
    if settings.diagnostics.log_odds and not settings.folds.cross_validate:
        raise UserError(
            "diagnostics.log_odds=true: has no effect without a cross-validation; expected folds=cv too, or "
            "diagnostics.log_odds=false."
        )
    if is_feature_model(config):
        feature_run.refuse_unused(overrides)
        config = without_optimizer_name(config)
        return config, check_settings(config)
    trainer = settings.trainer
    if trainer.window is None and trainer.stride is not None:
        raise UserError(
            f"trainer.stride={trainer.stride:g}: has no effect with trainer.window=null, where a record is one "
            "window; expected trainer.window=SECONDS too, or no trainer.stride."
        )
    if trainer.compile:
        refuse_without_compiler(choose_device(trainer.device))
    return config, settings


def _show_end(run: Run, recorder: Recorder, metrics: Mapping[str, float], overrides: list[str]) -> None:
    """Show the metrics of a run, its place, and commands to try next."""
    splits = [split for split in ("val", "test") if f"{split}/loss" in metrics]
    if splits:
        rows = _metric_rows(metrics, run.task.metric_titles, splits)
        title = "Results, with 95 % intervals"
        console.print(results_table(title, ["metric", *(SPLIT_WORDS[split] for split in splits)], rows))

    members = member_names(run)
    if members:
        console.print(_models_table(metrics, run.task.metric_titles, [*members, MEAN]))

    if recorder.run_id:
        name = run.settings.tracking.run_name
        say(f"This is the run {name} (id {recorder.run_id}) in {without_password(recorder.uri)}.")
    else:
        tracking_options = run.settings.tracking
        trusted = trusted_for(recorder.uri, tracking_options.register, tracking_options.alias)
        sync = command("sync", str(run.folder), trusted=trusted)
        say(f"The run is not in {without_password(recorder.uri)} yet. This sends it: {sync}")
    say(f"Its files, with the checkpoints, are in {run.folder}.")

    say_next(_next_commands(run, recorder, overrides))


def _next_commands(run: Run, recorder: Recorder, overrides: list[str]) -> list[tuple[str, str]]:
    """Return commands to try after a run, each with its purpose."""
    from hydra.core.hydra_config import HydraConfig

    commands = [(ui_command(recorder.uri), "look at the run in MLflow")]
    answering = next((folder for folder in (run.folder / MEAN, run.folder) if (folder / BUNDLE).exists()), None)
    if answering is not None:
        commands += bundle_commands(answering, example_record(run))
        if {"val", "test"} <= set(run.data.splits):
            evaluation = (evaluate_command(run.folder, recorder.uri), "measure it in detail on the test records")
            commands.insert(0, evaluation)
    is_resumed = any(override.startswith("resume=") for override in overrides)
    if not is_resumed:
        group, other, two_others = run.other_options
        if f"{group}={other}" in overrides:
            # Another one than that of this run.
            other = next(name for name in two_others.split(",") if name != other)
        same = [*hydra_options(HydraConfig.get()), *without(overrides, group, "seed", *_OF_THIS_RUN)]
        if run.task.kind is TaskKind.PRETEXT:
            commands.append((init_from_command(run.folder, overrides), "train a classifier from these weights"))
        change = train_command(*same, f"{group}={other}")
        compare = train_command(*same, f"{group}={two_others}", "seed=0,1,2", several=True)
        commands += [(change, f"train with another {group}"), (compare, f"compare {group}s, with three seeds each")]
    return commands


def _metric_rows(metrics: Mapping[str, float], labels: Mapping[str, str], splits: Sequence[str]) -> list[list[str]]:
    """Return the rows of the table at the end of a run: the label of a metric, and its value on each split."""
    rows = []
    for name, label in labels.items():
        rows.append([label, *(_metric_cell(metrics, f"{split}/{name}") for split in splits)])
    return rows


def _metric_cell(metrics: Mapping[str, float], name: str) -> str:
    """Return a metric with its interval, in the form of a narrow table."""
    return metric_text(metrics, name, between="-")


def _models_table(metrics: Mapping[str, float], labels: Mapping[str, str], models: Sequence[str]) -> Table:
    """Return a table with the test metrics of the network and of other models, of which the last one is the mean."""
    prefixes = {NETWORK: "test/"} | {model: f"test/{model}_" for model in models}
    rows = []
    for model, prefix in prefixes.items():
        cells = [_metric_cell(metrics, f"{prefix}{name}") for name in labels]
        rows.append([model, *cells])
    title = "Results of each model on the test records, with 95 % intervals"
    return results_table(title, ["model", *labels.values()], rows)
