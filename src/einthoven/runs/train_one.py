"""`einthoven train`: one run, or a cross-validation, written to MLflow."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import einthoven
from einthoven.command_line import command, option, train_command
from einthoven.errors import UserError
from einthoven.functional.class_names import parts
from einthoven.runs import advice, assemble, feature_run
from einthoven.runs.compared_figure import draw
from einthoven.runs.conclude import conclude
from einthoven.runs.feature_run import FittedRun
from einthoven.runs.finished import check_trained
from einthoven.runs.identity import git_commit, identity, refuse_other_options, shown_overrides
from einthoven.runs.network_run import Run
from einthoven.runs.next_commands import hydra_options, resume_command, ui_command, without
from einthoven.runs.parameters import parameters
from einthoven.runs.run_config import read_config
from einthoven.runs.trained_data import TrainedData, read_trained_data, write_trained_data
from einthoven.terminal.display import console, results_table, say, say_next
from einthoven.tracking import run_folder
from einthoven.tracking.places import trusted_for
from einthoven.tracking.recorder import Recorder, closing
from einthoven.tracking.server import client, reach, without_password
from einthoven.tracking.sweep import PARENT
from einthoven.training import checkpoint

if TYPE_CHECKING:
    from filelock import FileLock
    from omegaconf import DictConfig


def train_one(config: DictConfig, folder: Path, overrides: list[str]) -> dict[str, float]:
    """Train as configured; the value is the final metrics.

    Parameters
    ----------
    config : DictConfig
        As composed from ``conf/train.yaml``.
    folder : Path
        The run's own folder, for its configuration and checkpoints.
    overrides : list of str
        What the command line changed; it names the run in a sweep.
    """
    if config.resume is not None:
        return _resume(Path(config.resume), overrides)
    checked = assemble.settings(config)
    if feature_run.is_fitted(config):
        feature_run.refuse_unused(overrides)
        config = feature_run.renamed(config)
        checked = assemble.settings(config)
    elif checked.trainer.window is None and checked.trainer.stride is not None:
        raise UserError(
            f"trainer.stride={checked.trainer.stride:g}: has no effect with trainer.window=null, where a record is one "
            "window; expected trainer.window=SECONDS too, or no trainer.stride."
        )
    if not checked.tracking.offline:
        reach(checked.tracking.uri)  # before any data are read
    if checked.folds.cross_validate:
        from einthoven.runs.cross_validation import cross_validate

        return cross_validate(config, folder, overrides)
    with claimed(folder) as (folder, lock):
        run = assembled(config, folder)
        run.write_config()
        write_trained_data(run)
        parent = os.environ.get(PARENT)
        recorder = open_recorder(run, checked.tracking.run_name, overrides, parent=parent, lock=lock)
        with closing(recorder):
            metrics = execute(run, recorder)
    if PARENT not in os.environ:
        if "figure" in config and not recorder.unsent and not checked.tracking.offline:  # of this run alone
            tracking = client(recorder.uri)
            draw(config, tracking, recorder.run_id, [tracking.get_run(recorder.run_id)])
        _say_what_next(run, recorder, metrics, overrides)
    return metrics


def refuse_used(folder: Path) -> None:
    """Refuse a folder whose run would be lost: one that has trained a model, or was not sent to its store.

    Raises
    ------
    UserError
        Says what can be done with that folder.
    """
    # `tracking/` may be deleted after a run has ended: its checkpoints are what counts.
    places = [folder / "checkpoints", *folder.glob("fold-*/checkpoints")]
    if any(checkpoint.exists(place) or (place / "fitted.skops").exists() for place in places):
        raise UserError(
            f"{folder}: holds a trained run already, and a new training would replace it; expected another folder "
            f"(hydra.run.dir=…), or delete this one. To continue it: {command('train', option('resume', folder))}."
        )
    run_folder.refuse_unsent(folder / "tracking")


@contextmanager
def claimed(folder: Path) -> Iterator[tuple[Path, FileLock]]:
    """Hold the folder for a new run, and give its lock.

    Where the user has not named the folder, another run may have it already, such as one that began in the same second:
    then this run takes the next free name.

    Raises
    ------
    UserError
        If the user has named a folder that another process writes to, or whose run would be lost.
    """
    for number in count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(run_folder.writing(place))
                refuse_used(place)
            except UserError:
                if _is_named_by_user():
                    raise
                continue
            yield place, lock
            return


def _is_named_by_user() -> bool:
    """Whether the command line says which folder this run has; those of a sweep's runs it never does."""
    from hydra.core.hydra_config import HydraConfig

    given = HydraConfig.get().overrides.hydra if HydraConfig.initialized() else ["hydra.run.dir="]
    return PARENT not in os.environ and any(option.startswith("hydra.run.dir=") for option in given)


def assembled(config: DictConfig, folder: Path) -> Run | FittedRun:
    """A run of whichever kind the model asks for."""
    return FittedRun(config, folder) if feature_run.is_fitted(config) else Run(config, folder)


def execute(run: Run | FittedRun, recorder: Recorder) -> dict[str, float]:
    """Train and conclude a run whose recorder is open."""
    _describe(run)
    facts = advice.examine(run, recorder)
    if isinstance(run, FittedRun):
        metrics, found = feature_run.execute(run, recorder)
        advice.conclude(run, recorder, facts, metrics, found)
        return metrics
    try:
        run.train(recorder)
        metrics, found = conclude(run, recorder)
    except KeyboardInterrupt:
        if checkpoint.exists(run.checkpoints):
            say(f"interrupted; take it up again with: {resume_command(run.folder, run.settings.tracking)}")
        raise
    except Exception as error:  # a run that fails is the one that needs advice
        advice.conclude(run, recorder, facts, {}, {}, error)
        raise
    advice.conclude(run, recorder, facts, metrics, found)
    return metrics


def open_recorder(
    run: Run | FittedRun,
    name: str,
    overrides: list[str],
    *,
    parent: str | None,
    folder: Path | None = None,
    run_id: str | None = None,
    position: int | None = None,
    lock: FileLock,
) -> Recorder:
    """Open the MLflow run: tags to filter by, parameters, datasets. Its folder is that of the run, if not another."""
    tracking, container = run.settings.tracking, assemble.plain(run.config)
    recorder = Recorder(
        tracking.uri,
        tracking.experiment,
        name,
        folder=folder or run.folder,
        tags=_tags(run, folder or run.folder, overrides),
        parent=parent,
        run_id=run_id,
        position=position,
        steps=0 if isinstance(run, FittedRun) else run.settings.trainer.epochs * run.steps_per_epoch,
        interval=tracking.interval,
        patience=tracking.patience,
        offline=tracking.offline,
        artifact_location=tracking.artifact_location,
        system_metrics=tracking.system_metrics,
        lock=lock,
    )
    if run_id is None:
        sizes = {} if isinstance(run, FittedRun) else {"model.parameters": _parameters(run)}
        sizes["data.classes"] = len(run.data.labels.classes)
        recorder.params(parameters(run.config, overrides) | sizes)
        recorder.text(assemble.shown_yaml(container), "config.yaml")
        if run.task.output != "identity":
            names = parts(run.data.labels.classes)
            recorder.table({"class": list(names), "metric name": list(names.values())}, "classes.json")
        for split, rows in run.data.rows.items():
            if len(rows):
                recorder.dataset(
                    run.data.store.path.name.rsplit("-", 1)[0],
                    run.data.store.fingerprint,
                    run.data.store.path.name,
                    {"records": len(rows), "patients": len(set(run.data.patients(split).tolist()))},
                    split,
                )
    return recorder


def _tags(run: Run | FittedRun, folder: Path, overrides: list[str]) -> dict[str, str]:
    commit = git_commit()
    tags = {
        "mlflow.source.name": "einthoven train",
        "mlflow.source.type": "LOCAL",
        "einthoven.version": einthoven.__version__,
        "einthoven.overrides": shown_overrides(overrides),
        "task": run.task.name,
        "data.fingerprint": run.data.store.fingerprint[:12],
        **{f"data.records.{split}": str(len(rows)) for split, rows in run.data.rows.items() if len(rows)},
        **identity(run.config),
        "device": str(run.device),
        "precision": run.precision,
    }
    if run.data.notes:
        tags["data.notes"] = " ".join(f"{note}." for note in run.data.notes)
    here = folder.resolve().is_relative_to(Path.cwd())
    tags |= {"folder": str(folder.resolve().relative_to(Path.cwd()))} if here else {}
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def _parameters(run: Run) -> int:
    return sum(p.numel() for p in run.model.parameters())


def _describe(run: Run | FittedRun) -> None:
    sizes = ", ".join(f"{len(rows)} {split}" for split, rows in run.data.rows.items() if len(rows))
    model = type(run.model).__name__ if isinstance(run, FittedRun) else f"{_parameters(run):,} parameters"
    count = len(run.data.labels.classes)
    classes = "" if run.task.output == "identity" else f": {count} class{'es' * (count != 1)}"
    console.print(f"{run.task.name}{classes}; records: {sizes}; {model} on {run.device} in {run.precision}")


def _resume(folder: Path, overrides: list[str]) -> dict[str, float]:
    others = [o for o in overrides if not o.startswith("resume=")]
    if others:
        raise UserError(f"resume={folder} continues a run as it was configured; leave out {' '.join(others)}.")
    run, recorder = taken_up(folder, overrides)
    metrics = continued(run, recorder)
    _say_what_next(run, recorder, metrics, overrides, is_resumed=True)
    return metrics


def taken_up(folder: Path, overrides: list[str]) -> tuple[Run, Recorder]:
    """An interrupted run at its last checkpoint, and its open recorder.

    Raises
    ------
    UserError
        If there is none in the folder, it has trained to its end or is being written, or its records, its
        configuration or its code have changed.
    """
    check_trained(folder, "resume")
    with ExitStack() as stack:
        lock = stack.enter_context(run_folder.writing(folder))
        config = read_config(folder, "resume")
        trained = read_trained_data(folder, "resume", takes_added=False)
        refuse_other_options(config, trained.options, trained.run)
        _refuse_other_code(trained, config)
        run = Run(config, folder, trained)
        meta = run.load()
        if run.position.epoch == run.settings.trainer.epochs or run.position.stopped:
            raise UserError(f"resume={folder}: this run has trained to its end; there is nothing to resume.")
        recorder = open_recorder(
            run,
            run.settings.tracking.run_name,
            overrides,
            parent=None,
            run_id=meta["run_id"],
            position=meta["recorder"],
            lock=lock,
        )
        stack.pop_all()  # from here on the recorder holds the lock
    return run, recorder


def _refuse_other_code(trained: TrainedData, config: DictConfig) -> None:
    """Refuse to continue a run with other source than it was started with: its numbers would be of neither."""
    now = identity(config)["code.hash"]
    if trained.code not in (None, now):
        raise UserError(
            f"{trained.run}: the code has changed since this run was started (code.hash was {trained.code} and is "
            f"{now}); expected the same code, or a new training."
        )


def continued(run: Run, recorder: Recorder) -> dict[str, float]:
    """Train a run that was taken up to its end."""
    console.print(f"resuming after epoch {run.position.epoch} of {run.settings.trainer.epochs}")
    with closing(recorder):
        return execute(run, recorder)


def metric_rows(metrics: Mapping[str, float], names: Mapping[str, str], splits: Sequence[str]) -> list[list[str]]:
    """Rows of the table at the end of a run: a metric by its label, and its value on each split."""
    rows = []
    for name, label in names.items():
        cells = []
        for split in splits:
            low, high = metrics.get(f"{split}/{name}_low"), metrics.get(f"{split}/{name}_high")
            interval = f" ({low:.3f}-{high:.3f})" if low is not None and high is not None else ""
            cells.append(f"{metrics.get(f'{split}/{name}', math.nan):.3f}{interval}")
        rows.append([label, *cells])
    return rows


def _say_what_next(
    run: Run | FittedRun,
    recorder: Recorder,
    metrics: Mapping[str, float],
    overrides: list[str],
    is_resumed: bool = False,
) -> None:
    """Show the metrics of a run, where it is, and what may be typed next."""
    from hydra.core.hydra_config import HydraConfig

    splits = [split for split in ("val", "test") if f"{split}/loss" in metrics]
    if splits:
        rows = metric_rows(metrics, run.task.shown, splits)
        console.print(results_table(f"{run.settings.tracking.run_name}, 95 % interval", ["metric", *splits], rows))
    place = f"run {recorder.run_id} in {without_password(recorder.uri)}"
    if not recorder.run_id:
        tracking = run.settings.tracking
        trusted = trusted_for(recorder.uri, tracking.register, tracking.alias)
        sync = command("sync", str(run.folder), trusted=trusted)
        place = f"run in {run.folder}/tracking, which {sync} sends to {without_password(recorder.uri)}"
    say(f"{place}; checkpoints in {run.folder}/checkpoints")
    again = hydra_options(HydraConfig.get())
    group, other, both = "optimizer", "sgd", "adamw,sgd"
    if isinstance(run, FittedRun):
        group, other, both = "model", "decision_tree", "forest,naive_bayes"
    given = [*again, *without(overrides, group, "seed")]
    commands = [(ui_command(recorder.uri), "look at the run in MLflow")]
    if not is_resumed:
        commands += [
            (train_command(*given, f"{group}={other}"), "change any part of it"),
            (train_command(*given, f"{group}={both}", "seed=0,1,2", several=True), "compare, over seeds"),
        ]
    say_next(commands)
