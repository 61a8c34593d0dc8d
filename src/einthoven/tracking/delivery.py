"""Entries of the spool -> calls of MLflow, each of which may be repeated without doubling anything."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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
_GONE = 404  # the answer of a store that does not know the run
_NEVER = (400, _GONE)  # answers of a store that another attempt would not change

T = TypeVar("T")


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
        self._refused_names: dict[str, str] = {}  # of metrics, and why

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

        MLflow refuses a whole call for one bad name in it. Such a call is halved until what it refuses is alone.

        Raises
        ------
        RefusedError
            If the store will never take some of them; it has all others then.
        """
        refused: list[tuple[str, Entry]] = []
        metrics: list[Sequence[Any]] = []
        for entry in entries:
            if "metrics" in entry:
                metrics += entry["metrics"]
                continue
            refused += self._send_metrics(metrics, doubtful)
            metrics = []
            refused += self._send(entry)
        refused += self._send_metrics(metrics, doubtful)
        if refused:
            raise RefusedError(refused)

    def _send_metrics(self, metrics: Sequence[Sequence[Any]], doubtful: bool) -> list[tuple[str, Entry]]:
        """Send metrics; the names that the store refuses, with their values."""
        new = [row for row in metrics if row[0] not in self._refused_names]
        if doubtful and new:
            new = self._missing(new)
        for first in range(0, len(new), _METRICS):
            rows = new[first : first + _METRICS]
            names = list(dict.fromkeys(row[0] for row in rows))
            for reason, bad in self._send_halved(names, partial(self._log_metrics, rows)):
                self._refused_names |= dict.fromkeys(bad, reason)
        # All values of a refused name, also those that come later, are set aside without another call.
        by_name: dict[str, list[Sequence[Any]]] = {}
        for row in metrics:
            if row[0] in self._refused_names:
                by_name.setdefault(row[0], []).append(row)
        return [(self._refused_names[name], {"metrics": rows}) for name, rows in by_name.items()]

    def _log_metrics(self, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> None:
        """Send the rows of some names."""
        chosen = set(names)
        self.client.log_batch(self._run(), metrics=_as_metrics(row for row in rows if row[0] in chosen))

    def _missing(self, metrics: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """Those that the run does not have. A database drops what it has; a store of files would write it again."""
        here: set[tuple[Any, ...]] = set()
        for name in dict.fromkeys(row[0] for row in metrics):
            here |= self._stored(name)
        return [m for m in metrics if (m[0], _number(m[1]), m[2], m[3]) not in here]

    def _stored(self, name: str) -> set[tuple[Any, ...]]:
        """The values of a metric in the store; none of a name that it refuses."""
        points: list[Metric] = []
        self._refusal(lambda: points.extend(self.client.get_metric_history(self._run(), name)))
        return {(name, _number(point.value), point.timestamp, point.step) for point in points}

    def _send_halved(self, items: Sequence[T], send: Callable[[Sequence[T]], object]) -> list[tuple[str, Sequence[T]]]:
        """Send items in as few calls as the store allows; the reason for each item that it refuses."""
        reason, again = self._refusal(lambda: send(items))
        if not reason:
            return []
        if len(items) == 1 or not again:
            return [(reason, items)]
        middle = len(items) // 2
        return self._send_halved(items[:middle], send) + self._send_halved(items[middle:], send)

    def _refusal(self, call: Callable[[], object]) -> tuple[str, bool]:
        """Call the store: why it will never take this, empty if it has; and whether it might take a part of it."""
        from mlflow.exceptions import MlflowException, RestException

        try:
            call()
        except MlflowException as error:
            answered = isinstance(error, RestException) or not self.uri.startswith("http")
            status = error.get_http_status_code()  # type: ignore[no-untyped-call]
            if answered and status in _NEVER:
                return first_line(error), status != _GONE
            raise
        return "", False

    def _run(self) -> str:
        if not self.run_id:
            raise RuntimeError("the run is not in the store yet")
        return self.run_id

    def _send(self, entry: Entry) -> list[tuple[str, Entry]]:
        """Send an entry that holds no metrics; what of it the store refuses."""
        ((kind, content),) = entry.items()
        if kind == "params":
            refused: list[tuple[str, Entry]] = []
            items = list(content.items())
            for first in range(0, len(items), _PARAMS):
                for reason, bad in self._send_halved(items[first : first + _PARAMS], self._log_params):
                    refused.append((reason, {kind: dict(bad)}))
            return refused
        if kind == "tags":
            reasons = {
                name: self._refusal(partial(self.client.set_tag, self._run(), name, value))[0]
                for name, value in content.items()
            }
            return [(reason, {kind: {name: content[name]}}) for name, reason in reasons.items() if reason]
        if kind == "file" and not (self.folder / content["path"]).exists():
            # A staged file was sent before a crash could note it.
            return [] if content["staged"] else [(f"{content['path']} is no longer there", entry)]
        reason, _ = self._refusal(partial(self._send_whole, kind, content))
        return [(reason, entry)] if reason else []

    def _log_params(self, items: Sequence[tuple[str, str]]) -> None:
        from mlflow.entities import Param

        self.client.log_batch(self._run(), params=[Param(name, value) for name, value in items])

    def _send_whole(self, kind: str, content: Any) -> None:
        """Send what cannot be divided."""
        if kind == "run":
            self.create(content)
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
    """A value as a store gives it back: the largest number in the place of infinity. NaN equals itself here."""
    largest = sys.float_info.max
    return repr(value if math.isnan(value) else min(max(float(value), -largest), largest))


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that may follow."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
