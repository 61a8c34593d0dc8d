"""One run of a sweep: found finished in the store, taken up where it was interrupted, or trained."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.errors import UserError
from einthoven.report.sweep_note import brief
from einthoven.runs import assemble
from einthoven.runs.identity import identity, shown_overrides
from einthoven.runs.train_one import continued, taken_up, train_one
from einthoven.terminal.display import console, errors
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.server import client
from einthoven.tracking.sweep import PARENT, VARIED, count_below, put_failed, same_runs

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from omegaconf import DictConfig

    from einthoven.runs.network_run import Run
    from einthoven.tracking.recorder import Recorder


def child(config: DictConfig, folder: Path, overrides: list[str]) -> dict[str, float]:
    """Give a run of a sweep its metrics; none where it fails, which ends nothing but itself.

    Parameters
    ----------
    config : DictConfig
        As composed from ``conf/train.yaml``.
    folder : Path
        The run's own folder.
    overrides : list of str
        What the command line and the sweep changed.
    """
    console.print(f"{folder.name}: {shown_overrides(overrides)}", soft_wrap=True)
    parent, tags = os.environ[PARENT], {"einthoven.overrides": shown_overrides(overrides)}
    config = _named(config, parent, overrides)
    try:
        tags |= identity(config)
        before = [] if config.again else _same_runs(config, parent)
        for run in before:
            if run.info.status == "FINISHED":
                count_below(client(config.tracking.uri), parent, run)
                console.print(f"finished already: run {run.info.run_id}")
                return {name: v for name, v in run.data.metrics.items() if name.startswith(("val/", "test/"))}
        interrupted = _taken_up(before, parent)
        if interrupted is None:
            return train_one(config, folder, overrides)
        folder = interrupted[0].folder
        return continued(*interrupted)
    except Exception as error:
        # Whatever it is: it is told here and on the run, and the other runs of the sweep go on; only a store that does
        # not take it ends them, as nothing would count this run as failed.
        if isinstance(error, (UserError, OSError)):
            errors.print(f"failed: {error}", soft_wrap=True)
        else:
            traceback.print_exc()
        if not (folder / "tracking" / "run.json").exists():  # a run that was opened says so itself
            put_failed(client(config.tracking.uri), parent, str(config.tracking.run_name), tags, error)
        return {}


def _named(config: DictConfig, parent: str, overrides: list[str]) -> DictConfig:
    """The configuration with a name of the run that tells what the sweep varies, if the user has given none."""
    from omegaconf import DictConfig, OmegaConf

    varied = client(config.tracking.uri).get_run(parent).data.tags.get(VARIED, "").split()
    own = [option for option in overrides if option.partition("=")[0] in varied]
    if not own or any(option.startswith("tracking.run_name=") for option in overrides):
        return config
    name = " ".join(option.partition("=")[0].rpartition(".")[2] + "=" + option.partition("=")[2] for option in own)
    named = OmegaConf.merge(config, {"tracking": {"run_name": brief(without_folders(name))[:250]}})
    assert isinstance(named, DictConfig)
    return named


def _same_runs(config: DictConfig, parent: str) -> list[MlflowRun]:
    """Runs of the same configuration and source on the same records, the newest first."""
    found = same_runs(client(config.tracking.uri), parent, identity(config))
    if not found:  # before any data are read
        return []
    records = assemble.fingerprint(config)[:12]
    return [run for run in found if run.data.tags.get("data.fingerprint") == records]


def _taken_up(before: list[MlflowRun], parent: str) -> tuple[Run, Recorder] | None:
    """The interrupted run of this sweep and its open recorder, if there is one to take up."""
    for run in before:
        interrupted = run.info.status in ("RUNNING", "KILLED") and run.data.tags.get("mlflow.parentRunId") == parent
        folder = Path(run.data.tags.get("folder", ""))
        if not interrupted or _run_in(folder) != run.info.run_id:
            continue
        try:
            return taken_up(folder, [])
        except UserError as error:
            console.print(f"from the start: {error}", soft_wrap=True)
    return None


def _run_in(folder: Path) -> str:
    """Id of the run that a folder is of."""
    known = folder / "tracking" / "run.json"
    return str(json.loads(known.read_text())["run_id"]) if known.exists() else ""
