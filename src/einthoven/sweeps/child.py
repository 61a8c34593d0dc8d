"""One run of a sweep. A finished run is read from MLflow. An interrupted run is resumed. Other runs are trained."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.errors import UserError
from einthoven.report.sweep_note import brief
from einthoven.runs.base.read_base import with_base
from einthoven.runs.config.identity import identity_tags, logged_overrides
from einthoven.runs.config.run_name import renamed
from einthoven.runs.data.records import fingerprint
from einthoven.runs.folder.trained_run import open_started
from einthoven.runs.mean_members import with_members
from einthoven.runs.network.teachers import with_teachers
from einthoven.runs.resume import open_interrupted
from einthoven.runs.session import training_session
from einthoven.runs.train_one import train_one
from einthoven.terminal.display import console, errors, say
from einthoven.tracking.closing import closing
from einthoven.tracking.parent_run import PARENT
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import client
from einthoven.tracking.sweep import OVERRIDES, VARIED, count_below, put_failed, same_runs

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from omegaconf import DictConfig

    from einthoven.runs.network_run import NetworkRun


def child(config: DictConfig, folder: Path, overrides: list[str]) -> dict[str, float]:
    """Return the metrics of one run of a sweep, and train the run if that is necessary. Empty if the run failed.

    An error ends this run only. The other runs of the sweep go on. The overrides are those of the command line and the
    sweep.
    """
    console.print(f"Run {folder.name} of the sweep: {logged_overrides(overrides) or 'no options'}", soft_wrap=True)
    parent = os.environ[PARENT]
    tags = {OVERRIDES: logged_overrides(overrides)}
    config = _with_run_name(config, parent, overrides)
    try:
        # The hashes of the teachers and the models of a mean are part of the identity. A run from a base has the
        # architecture of the base.
        config = with_members(with_teachers(with_base(config, overrides)))
        tags |= identity_tags(config)
        earlier_runs = [] if config.again else _same_runs(config, parent)
        # A finished run with the same identity is not trained again. It counts as a run of this sweep.
        for run in earlier_runs:
            if run.info.status == "FINISHED":
                count_below(client(config.tracking.uri), parent, run, tags[OVERRIDES])
                say(f"This run has been trained already, and counts for this sweep, too: run {run.info.run_id}")
                metrics = run.data.metrics.items()
                return {name: value for name, value in metrics if name.startswith(("val/", "test/"))}
        interrupted = _open_interrupted(earlier_runs, parent)
        if interrupted is None:
            return train_one(config, folder, overrides)
        resumed_run, recorder = interrupted
        folder = resumed_run.folder
        with closing(recorder), training_session(resumed_run, recorder) as session:
            session.fit()
        return session.metrics
    except Exception as error:
        if isinstance(error, (UserError, OSError)):
            errors.print(f"einthoven: Run {folder.name} of the sweep has failed: {error}", soft_wrap=True)
        else:
            traceback.print_exc()
        # If the run has opened its recorder, MLflow gets the error from the recorder. Otherwise MLflow does not know
        # the run, and it is added here as a failed run. If this raises an error, too, the whole sweep ends.
        if not (folder / "tracking" / "run.json").exists():
            put_failed(client(config.tracking.uri), parent, str(config.tracking.run_name), tags, error)
        return {}


def _with_run_name(config: DictConfig, parent: str, overrides: list[str]) -> DictConfig:
    """Set a run name with the values of the options that the sweep varies, unless the user has chosen a name."""
    varied_options = client(config.tracking.uri).get_run(parent).data.tags.get(VARIED, "").split()
    parts = []
    for override in overrides:
        option, _, value = override.partition("=")
        if option == "tracking.run_name":
            return config
        if option in varied_options:
            parts.append(f"{option.rpartition('.')[2]}={value}")
    if not parts:
        return config
    run_name = brief(without_folders(" ".join(parts)))[:250]
    return renamed(config, run_name)


def _same_runs(config: DictConfig, parent: str) -> list[MlflowRun]:
    """Return earlier runs with the same configuration, source code and records. The newest run comes first."""
    runs = same_runs(client(config.tracking.uri), parent, identity_tags(config))
    # The fingerprint of the records takes time. It is only needed if the other tags agree.
    if not runs:
        return []
    data_fingerprint = fingerprint(config)[:12]
    return [run for run in runs if run.data.tags.get("data.fingerprint") == data_fingerprint]


def _open_interrupted(earlier_runs: list[MlflowRun], parent: str) -> tuple[NetworkRun, Recorder] | None:
    """Open an interrupted run of this sweep at its last checkpoint. Return None if there is no such run."""
    for run in earlier_runs:
        is_interrupted = run.info.status in ("RUNNING", "KILLED")
        is_of_this_sweep = run.data.tags.get("mlflow.parentRunId") == parent
        folder = Path(run.data.tags.get("folder", ""))
        # The folder may be gone, or another run may have used it since.
        if not is_interrupted or not is_of_this_sweep or _run_id_in(folder) != run.info.run_id:
            continue
        try:
            return open_interrupted(folder, open_started(folder))
        except UserError as error:
            say(f"An interrupted run of this sweep cannot be continued, so it is trained from the start: {error}")
    return None


def _run_id_in(folder: Path) -> str:
    """Return the MLflow id of the run in a folder, or an empty string if the folder has no run."""
    file = folder / "tracking" / "run.json"
    return str(json.loads(file.read_text())["run_id"]) if file.exists() else ""
