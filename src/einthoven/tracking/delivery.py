"""Entries of the spool to calls of MLflow. Each call can be repeated without writing anything twice."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from einthoven.errors import first_line
from einthoven.files import read_file
from einthoven.strict_json import parse_json
from einthoven.tracking.addresses import IDS, IDS_LIMIT, write_ids
from einthoven.tracking.artifact_address import RUN_ID
from einthoven.tracking.server import connect, experiment_id
from einthoven.tracking.spool import Entry, RefusedError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

CREATION = "einthoven.creation"
"""Tag of a run with a random number, so that a run is created once, even if its creation is repeated."""

# The page of MLflow shows an artifact as a table if this tag lists it.
_TABLES = "mlflow.loggedArtifacts"

# MLflow takes at most this many metrics and parameters in one call.
_METRICS_PER_CALL = 1000
_PARAMS_PER_CALL = 100

# HTTP status of a store that does not know the run, and of a store that another attempt would not change.
_GONE = 404
_FINAL = (400, _GONE)

T = TypeVar("T")


class Delivery:
    """One run in a tracking store. Its ids are in ``run.json`` in the folder of the spool.

    Parameters
    ----------
    folder : Path
        Folder of the spool: ``tracking/`` in the folder of the run.
    uri : str
        Address of the tracking store.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self.uri = uri
        self._ids: dict[str, str] = {}
        self._client: MlflowClient | None = None
        # Artifacts of the run that its page shows as tables. Only this process writes them. None before the first one.
        self._tables: list[dict[str, str]] | None = None
        # Names of metrics that the store refuses, with the reason.
        self._refused_names: dict[str, str] = {}

    @property
    def client(self) -> MlflowClient:
        """The client of the store. It is opened at the first use."""
        if self._client is None:
            self._client = connect(self.uri)
        return self._client

    @property
    def run_id(self) -> str:
        """Id of the run; empty until the store has created it."""
        file = self.folder / IDS
        if not self._ids.get("run_id") and file.exists():
            self._ids = parse_json(read_file(file, IDS_LIMIT), str(file))
        return self._ids.get("run_id", "")

    def write_ids(self, run_id: str, experiment_id: str) -> None:
        """Write the ids of the run and the addresses of its store into ``run.json``."""
        write_ids(self.folder, self.uri, run_id, experiment_id)
        self._ids = {"uri": self.uri, "run_id": run_id, "experiment_id": experiment_id}

    def refresh_ids(self) -> None:
        """Write the addresses of the store anew: the project may have moved."""
        if self.run_id:
            self.write_ids(self.run_id, self._ids["experiment_id"])

    def create(self, content: Mapping[str, Any], *, may_exist: bool = True) -> None:
        """Create the run in the store, unless it exists.

        An earlier attempt may have created the run and been killed before it could note the id, if `may_exist`.
        """
        if self.run_id:
            return
        # A child run belongs to the experiment of its parent, even if a sweep changes the name of the experiment.
        experiment = self._experiment_of(content["tags"].get("mlflow.parentRunId"))
        if experiment is None:
            experiment = experiment_id(self.client, content["experiment"], content["artifact_location"])
        run = self._created_before(experiment, content["tags"]) if may_exist else None
        if run is None:
            run = self.client.create_run(experiment, content["time"], content["tags"], content["name"])
        self.write_ids(run.info.run_id, str(run.info.experiment_id))

    def _experiment_of(self, run_id: str | None) -> str | None:
        """Return the experiment of a run; None if the store does not have the run (any more)."""
        from mlflow.exceptions import MlflowException

        if not run_id:
            return None
        try:
            return str(self.client.get_run(run_id).info.experiment_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _created_before(self, experiment: str, tags: Mapping[str, str]) -> Run | None:
        """Return the run that an earlier attempt has created; None if there is none."""
        if CREATION not in tags:
            return None
        runs = self.client.search_runs([experiment], f"tags.`{CREATION}` = '{tags[CREATION]}'", max_results=1)
        return runs[0] if runs else None

    def __call__(self, entries: Sequence[Entry], is_doubtful: bool) -> None:
        """Send entries, some of which may have arrived already if it `is_doubtful`. Metrics are sent in few calls.

        MLflow refuses a whole call because of one bad name. Such a call is halved until the bad name is alone. A
        `RefusedError` lists what the store will never take. It has taken all others in that case.
        """
        refused: list[tuple[str, Entry]] = []
        metrics: list[Sequence[Any]] = []
        for entry in entries:
            if "metrics" in entry:
                metrics += entry["metrics"]
                continue
            refused += self._send_metrics(metrics, is_doubtful)
            metrics = []
            refused += self._send(entry)
        refused += self._send_metrics(metrics, is_doubtful)
        if refused:
            raise RefusedError(refused)

    def _send_metrics(self, metrics: Sequence[Sequence[Any]], is_doubtful: bool) -> list[tuple[str, Entry]]:
        """Send metrics (name, value, time, step). Return the rows of the names that the store refuses."""
        new_rows = [row for row in metrics if row[0] not in self._refused_names]
        if is_doubtful and new_rows:
            new_rows = self._without_stored(new_rows)
        for first in range(0, len(new_rows), _METRICS_PER_CALL):
            rows = new_rows[first : first + _METRICS_PER_CALL]
            names = list(dict.fromkeys(row[0] for row in rows))
            for reason, refused_names in self._send_halved(names, partial(self._log_metrics, rows)):
                self._refused_names |= dict.fromkeys(refused_names, reason)

        # All values of a refused name are set aside, also later ones. No call is needed for them.
        refused_rows: dict[str, list[Sequence[Any]]] = {}
        for row in metrics:
            if row[0] in self._refused_names:
                refused_rows.setdefault(row[0], []).append(row)
        return [(self._refused_names[name], {"metrics": rows}) for name, rows in refused_rows.items()]

    def _log_metrics(self, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> None:
        """Send the rows that have one of some names."""
        from mlflow.entities import Metric

        chosen = set(names)
        metrics = [Metric(name, value, time, step) for name, value, time, step in rows if name in chosen]
        self.client.log_batch(self._existing_run(), metrics=metrics)

    def _without_stored(self, metrics: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """Return the rows that the run does not have. A database ignores repetitions, a store of files does not."""
        stored: set[tuple[Any, ...]] = set()
        for name in dict.fromkeys(row[0] for row in metrics):
            stored |= self._stored_rows(name)
        new_rows = []
        for row in metrics:
            name, value, time, step = row
            if (name, _stored_number(value), time, step) not in stored:
                new_rows.append(row)
        return new_rows

    def _stored_rows(self, name: str) -> set[tuple[Any, ...]]:
        """Return the values of a metric in the store. There are none if the store refuses the name."""
        points: list[Metric] = []
        self._refusal(lambda: points.extend(self.client.get_metric_history(self._existing_run(), name)))
        return {(name, _stored_number(point.value), point.timestamp, point.step) for point in points}

    def _send_halved(self, items: Sequence[T], send: Callable[[Sequence[T]], object]) -> list[tuple[str, Sequence[T]]]:
        """Send items in as few calls as the store allows. Return the refused items with their reasons."""
        reason, may_take_a_part = self._refusal(lambda: send(items))
        if not reason:
            return []
        if len(items) == 1 or not may_take_a_part:
            return [(reason, items)]
        middle = len(items) // 2
        return self._send_halved(items[:middle], send) + self._send_halved(items[middle:], send)

    def _refusal(self, call: Callable[[], object]) -> tuple[str, bool]:
        """Call the store. Return why it will never take this (empty if it has), and whether it might take a part."""
        from mlflow.exceptions import MlflowException, RestException

        try:
            call()
        except MlflowException as error:
            # An exception of another kind can mean that a server did not answer.
            is_answer = isinstance(error, RestException) or not self.uri.startswith("http")
            status = error.get_http_status_code()  # type: ignore[no-untyped-call]
            if is_answer and status in _FINAL:
                return first_line(error), status != _GONE
            raise
        return "", False

    def _existing_run(self) -> str:
        """Return the id of the run, which must exist."""
        if not self.run_id:
            raise RuntimeError("the run is not in the store yet")
        return self.run_id

    def _send(self, entry: Entry) -> list[tuple[str, Entry]]:
        """Send an entry without metrics. Return the parts that the store refuses."""
        ((kind, content),) = entry.items()
        refused: list[tuple[str, Entry]] = []
        if kind == "params":
            items = list(content.items())
            for first in range(0, len(items), _PARAMS_PER_CALL):
                for reason, params in self._send_halved(items[first : first + _PARAMS_PER_CALL], self._log_params):
                    refused.append((reason, {kind: dict(params)}))
            return refused
        if kind == "tags":
            for name, value in content.items():
                run_id = self._existing_run()
                sent_value = str(value).replace(RUN_ID, run_id)
                reason, _ = self._refusal(partial(self.client.set_tag, run_id, name, sent_value))
                if reason:
                    refused.append((reason, {kind: {name: value}}))
            return refused
        if kind == "file" and not (self.folder / content["path"]).exists():
            # A staged file that is missing was sent before a crash, which could not note it.
            return [] if content["staged"] else [(f"{content['path']} is no longer there", entry)]
        reason, _ = self._refusal(partial(self._send_whole, kind, content))
        return [(reason, entry)] if reason else []

    def _log_params(self, items: Sequence[tuple[str, str]]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(self._existing_run(), params=[Param(name, value) for name, value in items])

    def _send_whole(self, kind: str, content: Any) -> None:
        """Send an entry that cannot be divided."""
        if kind == "run":
            self.create(content)
        elif kind == "dataset":
            self._send_dataset(content)
        elif kind == "status":
            if content["status"] == "RUNNING":
                self.client.update_run(self._existing_run(), status="RUNNING")
            else:
                self.client.set_terminated(self._existing_run(), content["status"], content["time"])
        elif kind == "file":
            self._send_file(**content)
        elif kind == "checkpoint":
            from einthoven.tracking.models import send_checkpoint

            send_checkpoint(self.client, self._existing_run(), self._ids["experiment_id"], content)
        else:
            assert kind == "model", kind
            from einthoven.tracking.models import send_model

            model = self.folder / content["path"]
            run_id = self._existing_run()
            send_model(self.client, run_id, self._ids["experiment_id"], model, content)
            _remove_staged(model)

    def _send_dataset(self, content: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=content["name"],
            digest=content["digest"],
            source_type="local",
            source=json.dumps({"uri": content["source"]}),
            profile=json.dumps(content["profile"]),
        )
        context = InputTag("mlflow.data.context", content["context"])
        self.client.log_inputs(self._existing_run(), [DatasetInput(dataset, [context])])

    def _send_file(self, path: str, place: str, table: bool, staged: bool) -> None:
        """Send a file into the folder `place` of the artifacts."""
        file = self.folder / path
        self.client.log_artifact(self._existing_run(), str(file), place or None)
        if table:
            self._list_table(f"{place}/{file.name}" if place else file.name)
        if staged:
            _remove_staged(file)

    def _list_table(self, path: str) -> None:
        """Add an artifact to the tag of the tables."""
        if self._tables is None:
            run = self.client.get_run(self._existing_run())
            self._tables = json.loads(run.data.tags.get(_TABLES, "[]"))
        entry = {"path": path, "type": "table"}
        if entry not in self._tables:
            tables = [*self._tables, entry]
            self.client.set_tag(self._existing_run(), _TABLES, json.dumps(tables))
            self._tables = tables


def _remove_staged(staged: Path) -> None:
    """Remove a staged file or folder that has been sent. It has a folder of its own."""
    shutil.rmtree(staged.parent, ignore_errors=True)


def _stored_number(value: float) -> str:
    """Return a value as a store returns it, as text: infinity becomes the largest number. NaN equals NaN as text."""
    if math.isnan(value):
        return repr(value)
    largest = sys.float_info.max
    return repr(min(max(float(value), -largest), largest))
