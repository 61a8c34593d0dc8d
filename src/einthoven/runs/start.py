"""The start of a run: its folder is claimed, its parts are assembled, and its tracking run is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import einthoven
from einthoven.atomic import write_text
from einthoven.command_line import command, option
from einthoven.contracts import ONE_PROCESS, Processes, TaskKind
from einthoven.data.ancestry import Ancestry
from einthoven.data.store.store_folder import QUARANTINE
from einthoven.errors import UserError
from einthoven.functional.class_names import parts
from einthoven.predict.model_folder import FOLD
from einthoven.runs.base.read_base import read_base
from einthoven.runs.config.identity import git_commit, identity_tags, logged_overrides
from einthoven.runs.config.options import logged_options, logged_yaml, plain_options, write_config
from einthoven.runs.config.parameters import parameters
from einthoven.runs.config.settings import Settings, is_feature_model
from einthoven.runs.data.run_data import training_ancestry
from einthoven.runs.evaluation.evaluation import check_splits
from einthoven.runs.feature_run import FeatureRun
from einthoven.runs.folder.trained_data import write_trained_data
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.results.plain_files import write_environment
from einthoven.runs.run import Run
from einthoven.terminal.display import say
from einthoven.tracking import run_folder
from einthoven.tracking.closing import closing_on_error
from einthoven.tracking.parent_run import PARENT
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.sweep import OVERRIDES
from einthoven.training import checkpoint

if TYPE_CHECKING:
    from filelock import FileLock
    from omegaconf import DictConfig


@contextmanager
def claim_folder(folder: Path) -> Iterator[tuple[Path, FileLock]]:
    """Hold a folder for a new run, and yield it with its lock.

    If the user has not named the folder, another run may have it already, such as one that began in the same second.
    Then this run takes the next free name. Raises a `UserError` if the user has named a folder that another process
    writes to, or whose run would be lost.
    """
    for number in count(1):
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(run_folder.writing(candidate))
                _refuse_used(candidate)
            except UserError:
                if is_named_by_user():
                    raise
                continue
            yield candidate, lock
            return


def _refuse_used(folder: Path) -> None:
    """Refuse a folder whose run would be lost: it has trained a model, or was not sent to its store."""
    # `tracking/` may be deleted after a run has ended, so the checkpoints are what counts.
    places = [folder / "checkpoints", *folder.glob(f"{FOLD}*/checkpoints")]
    if any(checkpoint.exists(place) or (place / "fitted.skops").exists() for place in places):
        raise UserError(
            f"{folder}: holds a trained run already, and a new training would replace it; expected another folder "
            f"(hydra.run.dir=…), or delete this one. To continue it: {command('train', option('resume', folder))}."
        )
    run_folder.refuse_unsent(folder / "tracking")


def is_named_by_user() -> bool:
    """Return whether the command line names the folder of this run. It never names those of a sweep's runs."""
    from hydra.core.hydra_config import HydraConfig

    if PARENT in os.environ:
        return False
    if not HydraConfig.initialized():
        return True
    return any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra)


def assemble_run(
    config: DictConfig, folder: Path, processes: Processes = ONE_PROCESS, settings: Settings | None = None
) -> Run:
    """Assemble the parts of a run. The model decides which kind of run it is.

    `settings` are those of the configuration, if it has been checked already.
    """
    if is_feature_model(config):
        return FeatureRun(config, folder)
    base = None
    if config.get("init_from") is not None:
        base = read_base(str(config.init_from))
        # The base may still be training. All folds of a cross-validation start from the same weights.
        expected = config.get("init_from_sha256")
        if expected not in (None, base.sha256):
            raise UserError(
                f"{base.source}: has changed since this command was started (its hash was {expected} and is "
                f"{base.sha256}); expected a base that does not change, such as a finished run."
            )
    run = NetworkRun(config, folder, base=base, processes=processes, settings=settings)
    if base is not None:
        say(run.loaded.sentence)
    if config.get("mean_with"):
        # The mean is evaluated after the training.
        check_splits(run, "val", "test")
    return run


def write_start(run: Run, overrides: list[str]) -> None:
    """Write the configuration of a run, its base, and the data that it will be trained on, into its folder.

    `overrides` are the options of the command line.
    """
    write_config(run.config, run.folder)
    write_environment(run)
    left_out = run.data.store.left_out
    if len(left_out):
        list_file = run.folder / QUARANTINE
        write_text(list_file, left_out.to_csv(index=False))
        say(f"{list_file} lists the records that are left out, each with the reason.")
    ancestry = training_ancestry(run.data, run.config).merged(*run.ancestors)
    if run.base is not None:
        run.base.save(run.folder)
        ancestry = ancestry.merged(run.base.ancestry or Ancestry())
    data = run.data
    notes = {
        "classes": list(data.identity.classes),
        "metric_names": parts(data.labels.classes),
        "task": run.task.name,
        "seed": run.settings.seed,
        "overrides": overrides,
        "config": logged_options(plain_options(run.config)),
        "data": data.store.fingerprint,
        **identity_tags(run.config),
    }
    write_trained_data(run.folder, data.identity, ancestry, notes)


def open_recorder(
    run: Run,
    name: str,
    overrides: list[str],
    *,
    parent: str | None,
    folder: Path | None = None,
    run_id: str | None = None,
    position: int | None = None,
    lock: FileLock,
) -> Recorder:
    """Open the MLflow run of a training run, with its tags, parameters and data sets.

    `parent` is the run of the sweep or of the cross-validation. The folder of the recorder is by default that of the
    run. A run that is continued has an id, and the position of its recorder in the checkpoint. The recorder holds the
    lock of the folder, too, until the end of the run.
    """
    tracking = run.settings.tracking
    folder = folder or run.folder
    recorder = Recorder(
        tracking.uri,
        tracking.experiment,
        name,
        folder=folder,
        tags=_tags(run, folder, overrides),
        parent=parent,
        run_id=run_id,
        position=position,
        steps=run.total_steps,
        interval=tracking.interval,
        patience=tracking.patience,
        offline=tracking.offline,
        artifact_location=tracking.artifact_location,
        system_metrics=tracking.system_metrics,
        lock=lock,
    )
    # A run that is continued has logged this, but its store may have been deleted since. It is stored once.
    with closing_on_error(recorder):
        _log_start(run, recorder, overrides)
        # The store gets this while the training begins, so that less is left for the end of a short run.
        recorder.hurry()
    return recorder


def _log_start(run: Run, recorder: Recorder, overrides: list[str]) -> None:
    """Log what is known of a run before its training: parameters, configuration, class names and data sets."""
    data = run.data
    classes = data.labels.classes
    left_out = data.store.left_out
    if len(left_out):
        reasons = [without_folders(reason) for reason in left_out["reason"]]
        recorder.text(left_out.assign(reason=reasons).to_csv(index=False), QUARANTINE)
    sizes = {**run.model_sizes, "data.classes": len(classes)}
    recorder.params(parameters(run.config, overrides) | sizes)
    recorder.text(logged_yaml(plain_options(run.config)), "config.yaml")
    if run.task.kind is TaskKind.CLASSES:
        names = parts(classes)
        recorder.table({"class": list(names), "metric name": list(names.values())}, "classes.json")
    for split, rows in data.rows.items():
        if len(rows):
            store_name = data.store.path.name
            patients = set(data.patients(split).tolist())
            counts = {"records": len(rows), "patients": len(patients)}
            recorder.dataset(store_name.rsplit("-", 1)[0], data.store.fingerprint, store_name, counts, split)


def _tags(run: Run, folder: Path, overrides: list[str]) -> dict[str, str]:
    tags = {
        "mlflow.source.name": "einthoven train",
        "mlflow.source.type": "LOCAL",
        "einthoven.version": einthoven.__version__,
        OVERRIDES: logged_overrides(overrides),
        "task": run.task.name,
        "data.fingerprint": run.data.store.fingerprint[:12],
        **{f"data.records.{split}": str(len(rows)) for split, rows in run.data.rows.items() if len(rows)},
        **identity_tags(run.config),
        "device": str(run.device),
        "precision": run.precision,
        "threads": _describe_threads(),
    }
    if run.data.notes:
        tags["data.notes"] = " ".join(f"{note}." for note in run.data.notes)
    if run.base is not None:
        tags["init_from"] = f"{run.base.logged_source.removeprefix('init_from=')} ({run.base.sha256})"
    # Only a folder inside the working folder is logged: an absolute path may name the user.
    absolute = folder.resolve()
    if absolute.is_relative_to(Path.cwd()):
        tags["folder"] = str(absolute.relative_to(Path.cwd()))
    commit = git_commit()
    if commit:
        tags["mlflow.source.git.commit"] = commit
    return tags


def _describe_threads() -> str:
    """Return the number of threads of torch, and how they wait for work."""
    waiting = [f"{name}={os.environ[name]}" for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if name in os.environ]
    return " ".join([str(torch.get_num_threads()), *waiting])
