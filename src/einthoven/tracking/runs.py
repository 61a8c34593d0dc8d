"""Runs of a tracking store by what people call them: a folder, an id, a name, the parent of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.command_line import command
from einthoven.errors import UserError
from einthoven.tracking.delivery import first_line
from einthoven.tracking.run_folder import identity
from einthoven.tracking.server import shown
from einthoven.tracking.sweep import children

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

_NEWEST = 3  # runs that a sentence names


def meant(tracking: MlflowClient, names: list[str]) -> list[MlflowRun]:
    """The runs that are called by these names, each once; one parent run stands for those below it.

    Parameters
    ----------
    tracking : MlflowClient
    names : list of str
        See `find`.

    Raises
    ------
    UserError
        As `find`.
    """
    found = {run.info.run_id: run for run in (find(tracking, name) for name in names)}
    if len(found) == 1:
        return children(tracking, *found) or list(found.values())
    return list(found.values())


def find(tracking: MlflowClient, name: str) -> MlflowRun:
    """The run that is called by one name.

    Parameters
    ----------
    tracking : MlflowClient
    name : str
        The folder of a run (``outputs/…``), ``runs:/ID``, an id, or the name of a run.

    Raises
    ------
    UserError
        If there is none, several runs have that name, the run of a folder is not in this store, or the store fails.
    """
    from mlflow.exceptions import MlflowException

    store = shown(tracking.tracking_uri)
    if Path(name).is_dir():
        known = identity(Path(name))
        if not known["run_id"]:
            raise UserError(f"{name}: its run has not been sent to a store; {command('sync', name)} sends it.")
        elsewhere = "" if known["uri"] == tracking.tracking_uri else f"in {shown(known['uri'])}, "
        missing = f"{name}: its run is {elsewhere}not in {store}; expected runs of one store."
        run_id = known["run_id"]
    else:
        run_id = name.removeprefix("runs:/").partition("/")[0] if name.startswith("runs:/") else name
        missing = ""
    try:
        return tracking.get_run(run_id)
    except MlflowException as error:
        if missing:
            gone = error.error_code == "RESOURCE_DOES_NOT_EXIST"
            raise UserError(missing if gone else f"{name}: {first_line(error)} (in {store}).") from None
    try:
        return _named(tracking, name, store)
    except MlflowException as error:
        raise UserError(f"{name}: {first_line(error)} (in {store}).") from None


def _named(tracking: MlflowClient, name: str, store: str) -> MlflowRun:
    places = [experiment.experiment_id for experiment in tracking.search_experiments()]
    mark = '"' if "'" in name else "'"
    newest = ["attributes.start_time DESC"]
    found = tracking.search_runs(places, f"attributes.run_name = {mark}{name}{mark}", order_by=newest)
    if len(found) > 1:
        ids = ", ".join(run.info.run_id for run in found[:_NEWEST])
        raise UserError(
            f"{name}: {len(found)} runs in {store} have this name; expected the id of one, newest first {ids}"
            f"{' …' if len(found) > _NEWEST else '.'}"
        )
    if not found:
        others = [run.info.run_name for run in tracking.search_runs(places, order_by=newest, max_results=_NEWEST)]
        known = f"the newest are {', '.join(others)}" if others else "it has no runs"
        raise UserError(f"{name}: no folder, id or name of a run in {store}; {known}.")
    return found[0]
