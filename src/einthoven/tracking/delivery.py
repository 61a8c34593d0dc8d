"""Entries of the spool -> calls of MLflow, each of which may be repeated without doubling anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.atomic import write_text
from einthoven.files import parse_json, read_file
from einthoven.tracking.server import connect, experiment_id
from einthoven.tracking.spool import Entry, RefusedError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

MOST_IDENTITY = 1 << 20
"""Bytes of ``run.json``."""

_METRICS, _PARAMS = 1000, 100  # that MLflow takes in one call
_NEVER = (400, 404)  # answers of a store that another attempt would not change


class Delivery:
    """One run in a tracking store, and who it is: ``run.json`` in the folder of the spool.

    Parameters
    ----------
    folder : Path
        Of the spool, ``tracking/`` in that of the run.
    uri : str
        Of the tracking store.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self._path = folder / "run.json"
        self._identity: dict[str, str] = {}
        self._client: MlflowClient | None = None

    @property
    def client(self) -> MlflowClient:
        """The client; opened when it is first needed."""
        if self._client is None:
            self._client = connect(self.uri)
        return self._client

    @property
    def run_id(self) -> str:
        """Id of the run; empty as long as the store has not made it."""
        return self._known().get("run_id", "")

    @property
    def experiment_id(self) -> str:
        """Id of its experiment; empty as long as there is no run."""
        return self._known().get("experiment_id", "")

    def _known(self) -> dict[str, str]:
        if not self._identity.get("run_id") and self._path.exists():
            self._identity = parse_json(read_file(self._path, MOST_IDENTITY), str(self._path))
        return self._identity

    def identify(self, run_id: str, experiment_id: str) -> None:
        """Note who the run is."""
        known = {"uri": self.uri, "run_id": run_id, "experiment_id": experiment_id}
        write_text(self._path, json.dumps(known))
        self._identity = known

    def create(self, wanted: Mapping[str, Any]) -> None:
        """Make the run, if it was not made yet."""
        if self.run_id:
            return
        parent = wanted["tags"].get("mlflow.parentRunId")
        # Beside its parent, whatever the sweep changes in the experiment's name.
        place = (
            self.client.get_run(parent).info.experiment_id
            if parent
            else experiment_id(self.client, wanted["experiment"], wanted["artifact_location"])
        )
        run = self.client.create_run(place, wanted["time"], wanted["tags"], wanted["name"])
        self.identify(run.info.run_id, str(run.info.experiment_id))

    def __call__(self, entries: Sequence[Entry], doubtful: bool) -> None:
        """Send entries, consecutive metrics in as few calls as MLflow allows.

        Raises
        ------
        RefusedError
            If the store will never take one of them.
        """
        from mlflow.exceptions import MlflowException, RestException

        try:
            metrics: list[Sequence[Any]] = []
            for entry in entries:
                if "metrics" in entry:
                    metrics += entry["metrics"]
                    continue
                self._send_metrics(metrics, doubtful)
                metrics = []
                self._send(entry)
            self._send_metrics(metrics, doubtful)
        except MlflowException as error:
            answered = isinstance(error, RestException) or not self.uri.startswith("http")
            if answered and error.get_http_status_code() in _NEVER:  # type: ignore[no-untyped-call]
                raise RefusedError(first_line(error)) from error
            raise

    def _send_metrics(self, metrics: Sequence[Sequence[Any]], doubtful: bool) -> None:
        if doubtful and metrics:
            metrics = self._missing(metrics)
        for first in range(0, len(metrics), _METRICS):
            self.client.log_batch(self._run(), metrics=_as_metrics(metrics[first : first + _METRICS]))

    def _missing(self, metrics: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """Those that the run does not have. A database drops what it has; a store of files would write it again."""
        here = {
            (name, _number(point.value), point.timestamp, point.step)
            for name in dict.fromkeys(m[0] for m in metrics)
            for point in self.client.get_metric_history(self._run(), name)
        }
        return [m for m in metrics if (m[0], _number(m[1]), m[2], m[3]) not in here]

    def _run(self) -> str:
        if not self.run_id:
            raise RuntimeError("the run is not in the store yet")
        return self.run_id

    def _send(self, entry: Entry) -> None:
        from mlflow.entities import Param

        ((kind, content),) = entry.items()
        if kind == "run":
            self.create(content)
        elif kind == "params":
            params = [Param(name, value) for name, value in content.items()]
            for first in range(0, len(params), _PARAMS):
                self.client.log_batch(self._run(), params=params[first : first + _PARAMS])
        elif kind == "tags":
            for name, value in content.items():
                self.client.set_tag(self._run(), name, value)
        elif kind == "dataset":
            self._send_dataset(content)
        elif kind == "status":
            if content["status"] == "RUNNING":
                self.client.update_run(self._run(), status="RUNNING")
            else:
                self.client.set_terminated(self._run(), content["status"], content["time"])
        elif kind == "file":
            self._send_file(**content)
        else:
            assert kind == "model", kind
            from einthoven.tracking.models import send_model

            send_model(self.client, self._run(), self.experiment_id, self.folder / content["path"], content)
            self._forget(self.folder / content["path"])

    def _send_dataset(self, content: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entity = Dataset(
            name=content["name"],
            digest=content["digest"],
            source_type="local",
            source=json.dumps({"uri": content["source"]}),
            profile=json.dumps(content["profile"]),
        )
        context = InputTag("mlflow.data.context", content["context"])
        self.client.log_inputs(self._run(), [DatasetInput(entity, [context])])

    def _send_file(self, path: str, place: str, table: bool, staged: bool) -> None:
        file = self.folder / path
        if not file.exists():
            if staged:  # sent, before a crash could note it
                return
            raise RefusedError(f"{path} is no longer there")
        self.client.log_artifact(self._run(), str(file), place or None)
        if table:  # which the page then shows as one
            name = f"{place}/{file.name}" if place else file.name
            known = json.loads(self.client.get_run(self._run()).data.tags.get("mlflow.loggedArtifacts", "[]"))
            entry = {"path": name, "type": "table"}
            if entry not in known:
                self.client.set_tag(self._run(), "mlflow.loggedArtifacts", json.dumps([*known, entry]))
        if staged:
            self._forget(file)

    def _forget(self, staged: Path) -> None:
        shutil.rmtree(staged.parent, ignore_errors=True)  # each has a folder of its own


def _as_metrics(rows: Iterable[Sequence[Any]]) -> list[Metric]:
    from mlflow.entities import Metric

    return [Metric(name, value, time, step) for name, value, time, step in rows]


def _number(value: float) -> str:
    return repr(float(value))  # NaN equals itself there


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that may follow."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
