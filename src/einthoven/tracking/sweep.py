"""A sweep in the tracking store: a parent run, the runs below it, and what the store has of them already."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.tracking.artifacts import content
from einthoven.tracking.delivery import first_line
from einthoven.tracking.files import PROBE
from einthoven.tracking.names import accepted, classes_summed, current
from einthoven.tracking.recorder import error_tag
from einthoven.tracking.server import client, experiment_id, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun
    from omegaconf import DictConfig

FloatArray = NDArray[np.float64]

PARENT = "EINTHOVEN_PARENT_RUN"
"""Environment variable with the run id of the sweep's parent: workers of any launcher inherit it."""

SWEEP = "sweep.hash"
"""Tag of a parent run: the same for the same sweep."""

VARIED = "sweep.varies"
"""Tag of a parent run: the options that its runs differ in."""

_FOUND = "sweep.found"  # and the id of a parent: tag of a run that counts there, too
_MANY = 50_000  # runs in one answer


def open_parent(
    place: DictConfig, name: str, tags: Mapping[str, str], parameters: Mapping[str, str], again: bool
) -> tuple[str, bool]:
    """Id of an open parent run with these tags, and whether it is that of the same sweep before (not with `again`).

    Parameters
    ----------
    place
        ``uri``, ``experiment`` and ``artifact_location``, as of a run.

    Raises
    ------
    UserError
        If the store does not take it.
    """
    from mlflow.entities import Param
    from mlflow.exceptions import MlflowException

    try:
        tracking = client(place.uri)
        experiment = experiment_id(tracking, place.experiment, place.artifact_location)
        same = f"tags.`{SWEEP}` = '{tags[SWEEP]}'"
        if not again and (before := tracking.search_runs([experiment], same, max_results=1)):
            tracking.update_run(before[0].info.run_id, status="RUNNING")
            return str(before[0].info.run_id), True
        run_id = str(tracking.create_run(experiment, run_name=name, tags=dict(tags)).info.run_id)
        tracking.log_batch(run_id, params=[Param(accepted(key), text) for key, text in parameters.items()])
        return run_id, False
    except MlflowException as error:
        raise UserError(f"tracking.uri={shown(place.uri)}: {first_line(error)}") from None


def same_runs(tracking: MlflowClient, parent: str, identity: Mapping[str, str]) -> list[MlflowRun]:
    """Runs with these tags in the experiment of a parent run, the newest first."""
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in identity.items())
    return list(tracking.search_runs([_experiment(tracking, parent)], wanted, max_results=_MANY))


def count_below(tracking: MlflowClient, parent: str, run: MlflowRun) -> None:
    """Let a finished run count below a parent run too, wherever it hangs."""
    tracking.set_tag(run.info.run_id, f"{_FOUND}.{parent}", "true")


def children(tracking: MlflowClient, parent: str) -> list[MlflowRun]:
    """Runs that count below a parent run, in the order in which they started.

    Of several runs of one configuration, it is the newest that has finished; if none has, the newest.
    """
    place = _experiment(tracking, parent)
    own = tracking.search_runs([place], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=_MANY)
    found = tracking.search_runs([place], f"tags.`{_FOUND}.{parent}` = 'true'", max_results=_MANY)
    newest: dict[str, MlflowRun] = {}
    for run in sorted([*own, *found], key=_age):
        newest[run.data.tags.get("config.hash", overrides(run))] = run
    return sorted(newest.values(), key=lambda run: (run.info.start_time, run.info.run_name))


def _age(run: MlflowRun) -> tuple[bool, int]:
    return run.info.status == "FINISHED", run.info.start_time


def _experiment(tracking: MlflowClient, run_id: str) -> str:
    return str(tracking.get_run(run_id).info.experiment_id)


def close_leftovers(tracking: MlflowClient, parent: str) -> None:
    """Close runs below a parent that a kill has left open, when all of its runs are over."""
    place = _experiment(tracking, parent)
    left = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'RUNNING'"
    for run in tracking.search_runs([place], left, max_results=_MANY):
        tracking.set_terminated(run.info.run_id, "KILLED")


def put_failed(tracking: MlflowClient, parent: str, name: str, tags: Mapping[str, str], error: BaseException) -> None:
    """Write a run that failed before it could open its own record."""
    told = error_tag(error)
    tags = {**tags, **told, "mlflow.parentRunId": parent, "mlflow.note.content": f"Failed: {told['error']}"}
    run = tracking.create_run(_experiment(tracking, parent), tags=tags, run_name=name)
    tracking.set_terminated(run.info.run_id, "FAILED")


def differing(children: Sequence[MlflowRun]) -> list[dict[str, str]]:
    """The overrides of each run in which the runs differ, the seed apart."""
    given = [dict(o.split("=", 1) for o in shlex.split(overrides(run)) if "=" in o) for run in children]
    names = [name for name in dict.fromkeys(n for one in given for n in one) if name != "seed"]
    differ = [name for name in names if len({one.get(name) for one in given}) > 1]
    return [{name.lstrip("+"): _as_in_yaml(one[name]) for name in differ if name in one} for one in given]


def _as_in_yaml(value: str) -> str:
    """Hydra's sweeper writes True where the yaml says true."""
    return value.lower() if value in ("True", "False", "None") else value


def overrides(run: MlflowRun) -> str:
    """What the command line, or the sweep, changed in a run."""
    return str(run.data.tags.get("einthoven.overrides", ""))


def history(
    tracking: MlflowClient, run: MlflowRun, names: Collection[str] | None = None
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Every metric of a run, or those of some names that it has: steps and values.

    Names and scales are those of today, whichever version wrote the run.
    """
    wanted = None if names is None else {current(name) for name in names}
    series = {}
    for stored in run.data.metrics:
        name = current(stored)
        if wanted is None or name in wanted:
            points = sorted(tracking.get_metric_history(run.info.run_id, stored), key=lambda point: point.step)
            values = np.array([p.value for p in points], float) / classes_summed(stored, run.data.params)
            series[name] = (np.array([p.step for p in points], float), values)
    return series


def last_metrics(run: MlflowRun) -> dict[str, float]:
    """The last value of every metric of a run, under the names and on the scales of today."""
    return {current(name): value / classes_summed(name, run.data.params) for name, value in run.data.metrics.items()}


def arrays(tracking: MlflowClient, run: MlflowRun) -> dict[str, NDArray[Any]]:
    """What the probe of a run found; empty if it had none."""
    kept = content(tracking, run, PROBE)
    if kept is None:
        return {}
    with np.load(BytesIO(kept)) as file:
        return dict(file)


def put_note(tracking: MlflowClient, run_id: str, markdown: str) -> None:
    """Set the description of a run."""
    tracking.set_tag(run_id, "mlflow.note.content", markdown)


def put_table(
    tracking: MlflowClient, run_id: str, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Put a table on a run, which its page shows as such, in the place of the one of this name."""
    table = {"columns": list(columns), "data": [list(row) for row in rows]}
    tracking.log_text(run_id, json.dumps(table, ensure_ascii=False), name)
    known = json.loads(tracking.get_run(run_id).data.tags.get("mlflow.loggedArtifacts", "[]"))
    entry = {"path": name, "type": "table"}
    tracking.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([*(one for one in known if one != entry), entry]))


def abandon(status: str) -> None:
    """Close the parent run of a sweep that ended before its time."""
    from mlflow import MlflowClient

    if run_id := os.environ.pop(PARENT, None):
        MlflowClient().set_terminated(run_id, status)  # of the store that was opened for the sweep
