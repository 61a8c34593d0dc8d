"""Continue an interrupted run from its last checkpoint."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from einthoven.errors import UserError
from einthoven.runs.identity import identity_tags
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.start import open_recorder
from einthoven.runs.trained_run import TrainedRun, check_trained, open_trained
from einthoven.terminal.display import console
from einthoven.tracking import run_folder
from einthoven.tracking.recorder import Recorder


def open_interrupted(folder: Path, overrides: list[str]) -> tuple[NetworkRun, Recorder]:
    """Assemble an interrupted run at its last checkpoint, and open its MLflow run again.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    overrides : list of str
        Options of the command line. No option may be changed.

    Raises
    ------
    UserError
        If the folder holds no run, the run has trained to its end or is being written, or its records, its
        configuration or its code have changed.
    """
    others = [override for override in overrides if not override.startswith("resume=")]
    if others:
        raise UserError(f"resume={folder} continues a run as it was configured; leave out {' '.join(others)}.")
    check_trained(folder, "resume")
    with ExitStack() as stack:
        lock = stack.enter_context(run_folder.writing(folder))
        opened = open_trained(folder, "resume", takes_added=False, free=())
        _refuse_other_code(opened)
        run = NetworkRun(opened.config, folder, opened.trained)
        notes = run.load()
        epochs = run.settings.trainer.epochs
        if run.position.epoch == epochs or run.position.stopped:
            raise UserError(f"resume={folder}: this run has trained to its end; there is nothing to resume.")
        recorder = open_recorder(
            run,
            run.settings.tracking.run_name,
            overrides,
            parent=None,
            run_id=notes["run_id"],
            position=notes["recorder"],
            lock=lock,
        )
        # From here on the recorder holds the lock.
        stack.pop_all()
    console.print(f"resuming after epoch {run.position.epoch} of {epochs}")
    return run, recorder


def _refuse_other_code(opened: TrainedRun) -> None:
    """Refuse to continue a run with other source code than it was started with."""
    before = opened.trained.code
    now = identity_tags(opened.config)["code.hash"]
    if before not in (None, now):
        raise UserError(
            f"{opened.source}: the code has changed since this run was started (code.hash was {before} and is "
            f"{now}); expected the same code, or a new training."
        )
