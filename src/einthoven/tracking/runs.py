"""Find runs of a tracking store by a folder, an id, a name, or the parent run of a sweep."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.command_line import command
from einthoven.errors import UserError, store_reason
from einthoven.tracking.addresses import read_ids
from einthoven.tracking.database import sqlite_file
from einthoven.tracking.server import without_password
from einthoven.tracking.sweep import children
from einthoven.tracking.usual_store import usual_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

_LISTED_NAMES = 3
"""A message about an unknown run names at most this many others."""

_LISTED_RUNS = 12
"""A message about runs with the same name lists at most this many, one on each line."""

_START_OF_ID = re.compile(r"[0-9a-f]{4,31}")
"""The first characters of an id. Fewer than four say too little."""

_SHORT_ID = 8
"""A message shows so many characters of an id, or more if two runs begin with the same."""

_RESULTS = ("macro_auroc", "r2", "elbo", "mutual_information", "loss")
"""Metrics of the test or validation split that describe a run in a message: the first one that it has."""


def find_runs(tracking: MlflowClient, names: list[str]) -> list[MlflowRun]:
    """Find the runs with these names, each once. A single parent run stands for its child runs.

    A name is the folder of a run (``outputs/…``), ``runs:/ID``, an id or its first characters, or the name of a run.
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
    """Find the only run in all experiments with a name, or with an id that begins like this."""
    experiments = [experiment.experiment_id for experiment in tracking.search_experiments()]
    quote = '"' if "'" in name else "'"
    newest_first = ["attributes.start_time DESC"]
    runs = tracking.search_runs(experiments, f"attributes.run_name = {quote}{name}{quote}", order_by=newest_first)
    shared = "have this name"
    if not runs and _START_OF_ID.fullmatch(name):
        runs = tracking.search_runs(experiments, f"attributes.run_id LIKE '{name}%'", order_by=newest_first)
        shared = "have an id that begins like this"
    if len(runs) > 1:
        raise UserError(f"{name}: {len(runs)} runs in {store} {shared}.{_choose_one(runs, tracking.tracking_uri)}")
    if not runs:
        newest = tracking.search_runs(experiments, order_by=newest_first, max_results=_LISTED_NAMES)
        names = ", ".join(f"{run.info.run_name} ({run.info.run_id[:_SHORT_ID]})" for run in newest)
        content = f"the newest are {names}" if newest else "it has no runs"
        raise UserError(f"{name}: no folder, id or name of a run in {store}; {content}.")
    return runs[0]


def _choose_one(runs: list[MlflowRun], uri: str) -> str:
    """Return how to name one of several runs, and a line about each of them: id, start, status and result."""
    ids = [run.info.run_id for run in runs]
    length = _SHORT_ID
    while len({run_id[:length] for run_id in ids}) < len(ids):
        length += 1
    store_option = [] if _is_usual(uri) else [f"uri={without_password(uri)}"]
    lines = [f" Choose one by its id, for example: {command('report', ids[0][:length], *store_option)}"]
    for run in runs[:_LISTED_RUNS]:
        started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
        status = run.info.status.lower()
        data = run.data.params.get("data", "")
        words = [run.info.run_id[:length], f"{started:%Y-%m-%d %H:%M} UTC", data, status, _result(run)]
        lines.append(f"  {'  '.join(word for word in words if word)}")
    if len(runs) > _LISTED_RUNS:
        lines.append(f"  and {len(runs) - _LISTED_RUNS} older ones, which the MLflow page lists ({command('ui')})")
    return "\n".join(lines)


def _is_usual(uri: str) -> bool:
    """Return whether an address, absolute or relative, is that of the store that a command without one uses."""
    file = sqlite_file(uri)
    usual_file = sqlite_file(usual_uri())
    if file is None or usual_file is None:
        return uri == usual_uri()
    return file.absolute() == usual_file.absolute()


def _result(run: MlflowRun) -> str:
    """Return a metric of a run with its name; an empty text if it has none."""
    for metric in _RESULTS:
        for split in ("test", "val"):
            name = f"{split}/{metric}"
            if name in run.data.metrics:
                return f"{name} {run.data.metrics[name]:.3f}"
    return ""
