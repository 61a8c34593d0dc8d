"""A sweep in the tracking store: its parent run, the child runs, and their metrics."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError, store_reason
from einthoven.tracking.artifacts import content
from einthoven.tracking.closing import error_tag
from einthoven.tracking.files import PROBE
from einthoven.tracking.names import accepted, classes_summed, current
from einthoven.tracking.recorder import NOTE_TAG
from einthoven.tracking.server import client, experiment_id, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun
    from omegaconf import DictConfig

FloatArray = NDArray[np.float64]

SWEEP = "sweep.hash"
"""Tag of a parent run. The same sweep has the same value."""

VARIED = "sweep.varies"
"""Tag of a parent run: the options in which its runs differ."""

_REUSED = "sweep.found"
"""With the id of a parent run behind it: tag of an earlier run that counts as its child, too.

The value is the overrides of the run in this sweep, or `_NO_OVERRIDES` if an earlier version wrote the tag.
"""

_NO_OVERRIDES = "true"

OVERRIDES = "einthoven.overrides"
"""Tag of each run: its overrides, from the command line or the sweep."""

_TAG_LIMIT = 8000

_RUNS_PER_ANSWER = 50_000
"""The most that MLflow gives in one page."""


def open_parent(
    place: DictConfig, name: str, tags: Mapping[str, str], parameters: Mapping[str, str], again: bool
) -> tuple[str, bool]:
    """Open the parent run of a sweep: a new one, or that of an earlier start of the same sweep unless `again`.

    `place` has ``uri``, ``experiment`` and ``artifact_location`` of a configuration, and the tag `SWEEP` identifies the
    sweep. Return the id of the run, and whether it is that of an earlier start.
    """
    from mlflow.entities import Param
    from mlflow.exceptions import MlflowException

    try:
        tracking = client(place.uri)
        experiment = experiment_id(tracking, place.experiment, place.artifact_location)
        if not again:
            earlier = tracking.search_runs([experiment], f"tags.`{SWEEP}` = '{tags[SWEEP]}'", max_results=1)
            if earlier:
                run_id = str(earlier[0].info.run_id)
                tracking.update_run(run_id, status="RUNNING")
                return run_id, True
        run_id = str(tracking.create_run(experiment, run_name=name, tags=dict(tags)).info.run_id)
        tracking.log_batch(run_id, params=[Param(accepted(key), text) for key, text in parameters.items()])
        return run_id, False
    except MlflowException as error:
        raise UserError(f"tracking.uri={without_password(place.uri)}: {store_reason(error)}.") from None


def same_runs(tracking: MlflowClient, parent: str, identity: Mapping[str, str]) -> list[MlflowRun]:
    """Return the runs with these tags in the experiment of a parent run, the newest first."""
    condition = " and ".join(f"tags.`{name}` = '{value}'" for name, value in identity.items())
    return _search(tracking, _experiment(tracking, parent), condition)


def count_below(tracking: MlflowClient, parent: str, run: MlflowRun, options: str) -> None:
    """Count a finished run as a child of a parent run, too.

    `options` are those of the run in this sweep. The command that trained the run may have had others.
    """
    tracking.set_tag(run.info.run_id, f"{_REUSED}.{parent}", options[:_TAG_LIMIT])


def children(tracking: MlflowClient, parent: str) -> list[MlflowRun]:
    """Return the runs that count as children of a parent run, in the order in which they started.

    If a configuration has several runs, the newest finished run counts; if none has finished, the newest run. The
    overrides of each run are those of this sweep, also if another command has trained the run.
    """
    experiment = _experiment(tracking, parent)
    started = _search(tracking, experiment, f"tags.`mlflow.parentRunId` = '{parent}'")
    tag = f"{_REUSED}.{parent}"
    reused = _search(tracking, experiment, f"tags.`{tag}` LIKE '%'")
    for run in reused:
        if run.data.tags[tag] != _NO_OVERRIDES:
            run.data.tags[OVERRIDES] = run.data.tags[tag]
    # Later runs replace earlier runs of the same configuration, and finished runs come last.
    by_configuration: dict[str, MlflowRun] = {}
    for run in sorted([*started, *reused], key=lambda run: (run.info.status == "FINISHED", run.info.start_time)):
        by_configuration[run.data.tags.get("config.hash", overrides(run))] = run
    return sorted(by_configuration.values(), key=lambda run: (run.info.start_time, run.info.run_name))


def _search(tracking: MlflowClient, experiment: str, condition: str) -> list[MlflowRun]:
    """Return all runs of an experiment that meet a condition. The store gives them in pages."""
    runs: list[MlflowRun] = []
    token = None
    while True:
        page = tracking.search_runs([experiment], condition, max_results=_RUNS_PER_ANSWER, page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def _experiment(tracking: MlflowClient, run_id: str) -> str:
    return str(tracking.get_run(run_id).info.experiment_id)


def close_leftovers(tracking: MlflowClient, parent: str) -> None:
    """Close the child runs that a kill has left open, at the end of a sweep."""
    condition = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
    for run in _search(tracking, _experiment(tracking, parent), condition):
        tracking.set_terminated(run.info.run_id, "KILLED")


def put_failed(tracking: MlflowClient, parent: str, name: str, tags: Mapping[str, str], error: BaseException) -> None:
    """Write a child run that failed before it could open its own recorder."""
    failure = error_tag(error)
    all_tags = {
        **tags,
        **failure,
        "mlflow.parentRunId": parent,
        NOTE_TAG: f"Failed: {failure['error']}",
    }
    run = tracking.create_run(_experiment(tracking, parent), tags=all_tags, run_name=name)
    tracking.set_terminated(run.info.run_id, "FAILED")


def differing_options(runs: Sequence[MlflowRun]) -> list[dict[str, str]]:
    """Return the overrides of each run in which the runs differ, without the seed."""
    options = [
        dict(override.split("=", 1) for override in shlex.split(overrides(run)) if "=" in override) for run in runs
    ]
    names = dict.fromkeys(name for run_options in options for name in run_options if name != "seed")
    differing = [name for name in names if len({run_options.get(name) for run_options in options}) > 1]
    differing_of_runs = []
    for run_options in options:
        named = {name.lstrip("+"): as_in_yaml(run_options[name]) for name in differing if name in run_options}
        differing_of_runs.append(named)
    return differing_of_runs


def as_in_yaml(value: str) -> str:
    """Return a value as a user types it: Hydra's sweeper and the parameters of MLflow have None instead of null."""
    return {"True": "true", "False": "false", "None": "null"}.get(value, value)


def overrides(run: MlflowRun) -> str:
    """Return the overrides of a run, from the command line or the sweep."""
    return str(run.data.tags.get(OVERRIDES, ""))


def history(
    tracking: MlflowClient, run: MlflowRun, names: Collection[str] | None = None
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return steps and values of the metrics of a run, by default of all.

    Names and scales are the current ones, whichever version wrote the run. A name that the run does not have is left
    out.
    """
    chosen = None if names is None else {current(name) for name in names}
    series = {}
    for stored_name in run.data.metrics:
        name = current(stored_name)
        if chosen is not None and name not in chosen:
            continue
        points = sorted(tracking.get_metric_history(run.info.run_id, stored_name), key=lambda point: point.step)
        steps = np.array([point.step for point in points], float)
        values = np.array([point.value for point in points], float)
        series[name] = (steps, values / classes_summed(stored_name, run.data.params))
    return series


def last_metrics(run: MlflowRun) -> dict[str, float]:
    """Return the last value of each metric of a run, with current names and scales."""
    return {current(name): value / classes_summed(name, run.data.params) for name, value in run.data.metrics.items()}


def arrays(tracking: MlflowClient, run: MlflowRun) -> dict[str, NDArray[Any]]:
    """Return the arrays of the analysis of a run; an empty dict if it had none."""
    data = content(tracking, run, PROBE)
    if data is None:
        return {}
    with np.load(BytesIO(data)) as file:
        return dict(file)


def put_table(
    tracking: MlflowClient, run_id: str, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Log a table of a run, in place of an earlier table of this name. The page of MLflow shows it as a table."""
    table = {"columns": list(columns), "data": [list(row) for row in rows]}
    tracking.log_text(run_id, json.dumps(table, ensure_ascii=False), name)
    logged = json.loads(tracking.get_run(run_id).data.tags.get("mlflow.loggedArtifacts", "[]"))
    entry = {"path": name, "type": "table"}
    others = [artifact for artifact in logged if artifact != entry]
    tracking.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([*others, entry]))
