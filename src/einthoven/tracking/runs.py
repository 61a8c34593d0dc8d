"""Find runs of a tracking store by a folder, an id, a name, or the parent run of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.command_line import command
from einthoven.errors import UserError, store_reason
from einthoven.tracking.addresses import read_ids
from einthoven.tracking.server import without_password
from einthoven.tracking.sweep import children

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

_LISTED_RUNS = 3
"""A message names at most this many runs."""


def find_runs(tracking: MlflowClient, names: list[str]) -> list[MlflowRun]:
    """Find the runs with these names, each once. A single parent run stands for its child runs.

    Parameters
    ----------
    tracking : MlflowClient
    names : list of str
        Each is the folder of a run (``outputs/…``), ``runs:/ID``, an id, or the name of a run.

    Raises
    ------
    UserError
        If there is no such run, several runs have the name, the run of a folder is not in this store, or the store
        fails.
    """
    by_id = {}
    for name in names:
        run = _find_run(tracking, name)
        by_id[run.info.run_id] = run
    runs = list(by_id.values())
    if len(runs) == 1:
        return children(tracking, runs[0].info.run_id) or runs
    return runs


def _find_run(tracking: MlflowClient, name: str) -> MlflowRun:
    """Find the run with one name. Same names and errors as `find_runs`."""
    from mlflow.exceptions import MlflowException

    store = without_password(tracking.tracking_uri)
    run_id = name
    missing = ""
    if Path(name).is_dir():
        ids = read_ids(Path(name))
        run_id = ids["run_id"]
        if not run_id:
            raise UserError(f"{name}: its run has not been sent to a store; {command('sync', name)} sends it.")
        elsewhere = "" if ids["uri"] == tracking.tracking_uri else f"in {without_password(ids['uri'])}, "
        missing = f"{name}: its run is {elsewhere}not in {store}; expected runs of one store."
    elif name.startswith("runs:/"):
        run_id = name.removeprefix("runs:/").partition("/")[0]
    try:
        return tracking.get_run(run_id)
    except MlflowException as error:
        # If the name is not that of a folder, it may be the name of a run.
        if missing:
            is_unknown = error.error_code == "RESOURCE_DOES_NOT_EXIST"
            raise UserError(missing if is_unknown else f"{name}: {store_reason(error)} (in {store}).") from None
    try:
        return _find_by_name(tracking, name, store)
    except MlflowException as error:
        raise UserError(f"{name}: {store_reason(error)} (in {store}).") from None


def _find_by_name(tracking: MlflowClient, name: str, store: str) -> MlflowRun:
    """Find the only run with a name in all experiments."""
    experiments = [experiment.experiment_id for experiment in tracking.search_experiments()]
    quote = '"' if "'" in name else "'"
    newest_first = ["attributes.start_time DESC"]
    runs = tracking.search_runs(experiments, f"attributes.run_name = {quote}{name}{quote}", order_by=newest_first)
    if len(runs) > 1:
        ids = ", ".join(run.info.run_id for run in runs[:_LISTED_RUNS])
        raise UserError(
            f"{name}: {len(runs)} runs in {store} have this name; expected the id of one, newest first {ids}"
            f"{' …' if len(runs) > _LISTED_RUNS else '.'}"
        )
    if not runs:
        newest = tracking.search_runs(experiments, order_by=newest_first, max_results=_LISTED_RUNS)
        names = ", ".join(run.info.run_name for run in newest)
        content = f"the newest are {names}" if newest else "it has no runs"
        raise UserError(f"{name}: no folder, id or name of a run in {store}; {content}.")
    return runs[0]
