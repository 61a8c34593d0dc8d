"""Continue an interrupted run: from its last checkpoint, from its beginning, or with what is missing at its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.contracts import ONE_PROCESS, Processes
from einthoven.errors import UserError
from einthoven.runs.config.identity import identity_tags, refuse_other_options
from einthoven.runs.folder.trained_data import TrainedData, is_started, read_trained_data
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.run import Run
from einthoven.runs.start import open_recorder
from einthoven.terminal.display import say
from einthoven.tracking import run_folder
from einthoven.tracking.addresses import ids_file, read_ids, require_run
from einthoven.tracking.concluded import is_concluded, is_concluded_in_store
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.sync import sync
from einthoven.training import checkpoint

if TYPE_CHECKING:
    from filelock import FileLock
    from omegaconf import DictConfig


def refuse_other_overrides(folder: Path, overrides: list[str]) -> None:
    """Refuse options beside ``resume=``: a run is continued as it was configured."""
    others = [override for override in overrides if not override.startswith("resume=")]
    if others:
        raise UserError(f"resume={folder} continues a run as it was configured; leave out {' '.join(others)}.")


def send_rest(folder: Path) -> bool:
    """Send what is left of a run that is complete. Return whether there was something to send."""
    tracking = folder / "tracking"
    if not (is_concluded(folder) and run_folder.has_unsent(tracking)):
        return False
    say(f"This run is complete. The rest of it has been sent: {sync(folder)}")
    return True


def open_interrupted(
    folder: Path, config: DictConfig, processes: Processes = ONE_PROCESS
) -> tuple[NetworkRun, Recorder]:
    """Assemble an interrupted run at its last checkpoint, and open its MLflow run again.

    The run is refused if it is complete, is being written, or is not in its store, or if its records, its configuration
    or its code have changed.
    """
    with run_folder.writing(folder) as lock:
        opened = continue_run(folder, config, lock, processes=processes)
    if opened is None:
        raise UserError(
            f"resume={folder}: this run has trained to its end and is complete; there is nothing to resume."
        )
    return opened


def continue_run(
    folder: Path,
    config: DictConfig,
    lock: FileLock,
    processes: Processes = ONE_PROCESS,
) -> tuple[NetworkRun, Recorder] | None:
    """Assemble a run that has begun, and open its MLflow run; None if it is complete. The caller holds the folder."""
    run, notes = assemble_begun(folder, config, processes)
    run_id = notes.get("run_id")
    if ids_file(folder).exists():
        run_id = read_ids(folder)["run_id"]
    tracking = run.settings.tracking
    require_run(folder, tracking.uri, str(run_id or ""))
    if _is_over(run) and _is_complete(folder, run, run_id):
        return None
    assert run.trained is not None
    recorder = open_recorder(
        run,
        tracking.run_name,
        list(run.trained.overrides),
        parent=None,
        run_id=run_id,
        position=notes.get("recorder", 0),
        lock=lock,
    )
    say(describe_position(run))
    return run, recorder


def assemble_begun(
    folder: Path, config: DictConfig, processes: Processes = ONE_PROCESS
) -> tuple[NetworkRun, dict[str, Any]]:
    """Assemble a run that has begun, at its last checkpoint if it has one. Return also the notes of the checkpoint.

    The run is refused if it has not written what it was trained on, or if records, configuration or code have changed.
    """
    has_checkpoint = checkpoint.exists(folder / "checkpoints")
    if not has_checkpoint and not is_started(folder):
        raise UserError(
            f"resume={folder}: this run was stopped before its first step, and nothing is lost; start it again."
        )
    trained = read_trained_data(folder, "resume", takes_added=False)
    refuse_other_options(config, trained.options, trained.run)
    _refuse_other_code(trained, config)
    run = NetworkRun(config, folder, trained, processes=processes)
    return run, run.load() if has_checkpoint else {}


def _is_complete(folder: Path, run: NetworkRun, run_id: str | None) -> bool:
    """Return whether a run that has trained to its end has everything that belongs to its end."""
    if (folder / "tracking" / "entries.jsonl").exists():
        return is_concluded(folder)
    return bool(run_id) and is_concluded_in_store(run.settings.tracking.uri, str(run_id))


def _is_over(run: NetworkRun) -> bool:
    """Return whether a run has trained to its end."""
    return run.position.epoch == run.settings.trainer.epochs or run.position.stopped


def describe_position(run: Run) -> str:
    """Return a sentence that says where a run goes on."""
    assert isinstance(run, NetworkRun)
    position = run.position
    epochs = run.settings.trainer.epochs
    if _is_over(run):
        return (
            f"The run continues after its last epoch ({position.epoch} of {epochs}), because its end is not complete."
        )
    if position.step == 0:
        return "The run begins at its first step, because it has no checkpoint yet."
    if position.step > position.epoch * run.steps_per_epoch:
        return f"The run continues after step {position.step}, in epoch {position.epoch + 1} of {epochs}."
    return f"The run continues after epoch {position.epoch} of {epochs}."


def _refuse_other_code(trained: TrainedData, config: DictConfig) -> None:
    """Refuse to continue a run with other source code than it was started with."""
    now = identity_tags(config)["code.hash"]
    if trained.code not in (None, now):
        raise UserError(
            f"{trained.run}: the code has changed since this run was started (code.hash was {trained.code} and is "
            f"{now}); expected the same code, or a new training."
        )
