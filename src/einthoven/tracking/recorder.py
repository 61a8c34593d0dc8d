"""One MLflow run: metrics, parameters, pictures, files and the exported model.

Everything is written into the folder of the run first. Threads send it from there to the tracking store. The training
never waits for them.

::

    log_metrics -> buffer -> flush -> series.bin (every value) -> metrics.parquet, an artifact
                                   -> means over intervals      -> entries.jsonl -> the store
    params, tags, datasets -----------------------------------------^
    figures, tables, files, the model ------------------------> files.jsonl   -> the artifact store
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from einthoven.errors import UserError
from einthoven.tracking import run_folder
from einthoven.tracking.delivery import Delivery, first_line
from einthoven.tracking.files import Files, folder_of
from einthoven.tracking.names import accepted
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.series import Means, Point, SeriesFile
from einthoven.tracking.server import reach, without_password
from einthoven.tracking.spool import Spool
from einthoven.tracking.system import SystemMetrics
from einthoven.tracking.unsent import add_unsent

if TYPE_CHECKING:
    from filelock import FileLock

SERIES = "series/metrics.parquet"
"""Artifact with every logged value."""

POINTS = 5000
"""The store gets at most this many points of a metric that is logged at every step."""

_METRICS_PER_ENTRY = 1000

# MLflow takes at most this many characters. A note has room for characters of several bytes.
_TAG_LIMIT = 8000
_NOTE_LIMIT = 5000
_PARAMETER_LIMIT = 6000
_RUN_NAME_LIMIT = 250
_ERROR_LIMIT = 4000


class Recorder(Files):
    """Write one run.

    `log_metrics` only buffers values. Device tensors stay on the device until `flush` moves all of them at once.

    Parameters
    ----------
    uri : str
        Address of the tracking store, such as ``sqlite:///mlflow.db`` or ``http://…``.
    experiment, run_name : str
    folder : Path
        Folder of the run. Everything is in its ``tracking/`` until the store has it.
    tags : mapping
    parent : str, optional
        Run id of the parent run.
    run_id : str, optional
        Continue this run. Metrics that it already contains are not written again.
    position : int, optional
        The value of `position` when the checkpoint was written from which the run continues.
    steps : int
        Planned number of steps. If it is larger than `POINTS`, series are thinned (`Means`).
    interval : int
        Number of logged steps between two flushes.
    patience : float
        Seconds that the end of the run waits for a store that does not answer.
    offline : bool
        Write only to the folder.
    artifact_location : str, optional
        Where a new experiment stores its files.
    system_metrics : bool
        Also log the load and memory of the machine.
    lock : FileLock, optional
        Lock of the folder if the caller has it already (`run_folder.writing`). It is released at the end of the run.

    Attributes
    ----------
    latest : dict of str to float
        Last value of each metric.
    history : dict of str to (list of int, list of float)
        Steps and values of each metric, as sent to the store.
    unsent : list of str
        After the end of the run: sentences about entries that the store does not have.

    Raises
    ------
    UserError
        If the store cannot be reached, or the folder is in use.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        run_name: str,
        *,
        folder: Path,
        tags: Mapping[str, str],
        parent: str | None = None,
        run_id: str | None = None,
        position: int | None = None,
        steps: int = 0,
        interval: int = 50,
        patience: float = 60.0,
        offline: bool = False,
        artifact_location: str | None = None,
        system_metrics: bool = False,
        lock: FileLock | None = None,
    ) -> None:
        self._system = SystemMetrics() if system_metrics else None
        self.uri = uri
        self.interval = interval
        self.latest: dict[str, float] = {}
        self.history: dict[str, tuple[list[int], list[float]]] = {}
        self.unsent: list[str] = []
        self._patience = patience
        self._is_offline = offline
        # Logged steps that were not flushed: step, time in ms, values.
        self._buffer: list[tuple[int, int, dict[str, Tensor | float]]] = []
        self._last_step = 0
        # The last point of each metric that was put into the spool.
        self._last_points: dict[str, Point] = {}
        self._accepted_names: dict[str, str] = {}
        self._params: dict[str, str] = {}
        self._dataset: tuple[str, str] | tuple[()] = ()
        self._means = Means(steps, POINTS)

        tracking = folder / "tracking"
        self._delivery = Delivery(tracking, uri)
        self._lock = lock or run_folder.lock(tracking)
        has_ids = (tracking / "run.json").exists()
        # A new run clears the folder of an earlier run.
        if run_id is None and has_ids:
            run_folder.clear(tracking)
        if (run_id is None and not offline) or (run_id is not None and not has_ids):
            reach(uri)
        super().__init__(folder, Spool(tracking / "files.jsonl", self._delivery))
        self._entries = Spool(tracking / "entries.jsonl", self._delivery)
        self._series = SeriesFile(tracking)
        if run_id is None:
            parent_tag = {"mlflow.parentRunId": parent} if parent else {}
            self._create(
                {
                    "experiment": experiment,
                    "name": run_name[:_RUN_NAME_LIMIT],
                    "tags": _accepted_tags({**tags, **parent_tag}),
                    "time": _now_ms(),
                    "artifact_location": artifact_location,
                }
            )
        else:
            self._continue(run_id, position, has_ids)
        if not offline:
            self._entries.start()
            self._files.start()

    @property
    def run_id(self) -> str:
        """Id of the run; empty until the store has created it."""
        return self._delivery.run_id

    @property
    def experiment_id(self) -> str:
        """Id of the experiment of the run; empty until the store has created the run."""
        return self._delivery.experiment_id

    @property
    def position(self) -> int:
        """Number of values that have been written. A checkpoint contains it, so that a resumed run goes back to it."""
        self._series.sync()
        return len(self._series)

    def _create(self, content: dict[str, Any]) -> None:
        """Create the run in the store, or put its creation into the spool if the run is offline."""
        if self._is_offline:
            self._delivery.write_ids("", "")
            self._entries.put({"run": content})
            return
        from mlflow.exceptions import MlflowException

        try:
            self._delivery.create(content)
        except MlflowException as error:
            raise UserError(f"tracking.uri={without_password(self.uri)}: {first_line(error)}") from None

    def _continue(self, run_id: str, position: int | None, has_ids: bool) -> None:
        """Continue a run at the position of a checkpoint."""
        # If the folder came without its tracking/, only the store knows what was logged.
        points = self._points_of_spool() if has_ids else self._points_of_store(run_id)
        for point in points:
            self._remember(point)
        if position is not None:
            self._series.truncate(position)
        last_steps = {name: point.step for name, point in self._last_points.items()}
        for point in self._series.after(last_steps):
            self._means.add(point)
        self._entries.put({"status": {"status": "RUNNING"}})

    def _points_of_spool(self) -> list[Point]:
        """Read the metrics, parameters and dataset that are in the spool."""
        points: list[Point] = []
        try:
            for entry in self._entries.entries():
                points += [Point(*point) for point in entry.get("metrics", ())]
                self._params |= entry.get("params", {})
                if "dataset" in entry:
                    self._dataset = (entry["dataset"]["name"], entry["dataset"]["digest"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(
                f"{self._run_folder / 'tracking'}: entries.jsonl is damaged; expected the entries of a run."
            ) from None
        return points

    def _points_of_store(self, run_id: str) -> list[Point]:
        """Read the metrics and parameters that are in the store."""
        client = self._delivery.client
        run = client.get_run(run_id)
        self._delivery.write_ids(run_id, str(run.info.experiment_id))
        self._params = dict(run.data.params)
        points: list[Point] = []
        for name in run.data.metrics:
            metrics = sorted(client.get_metric_history(run_id, name), key=lambda metric: metric.step)
            points += [Point(name, metric.value, metric.timestamp, metric.step) for metric in metrics]
        return points

    def log_metrics(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        """Log metrics of a step. Tensors must be scalars. Nothing waits for the device."""
        if values:
            self._buffer.append((step, _now_ms(), dict(values)))
        if len(self._buffer) >= self.interval:
            self.flush()

    def flush(self, *, everything: bool = False) -> None:
        """Move the buffered values to the host in one transfer, and write them to the folder of the run.

        Parameters
        ----------
        everything : bool
            Also write the means of intervals that have not ended. Use it at the end of a training.

        Raises
        ------
        UserError
            If the disk is full.
        """
        points = self._take_buffer()
        # Samples of the machine have times of their own. They get the step of this flush.
        if self._system is not None:
            for time_ms, values in self._system.take():
                points += [Point(name, value, time_ms, self._last_step) for name, value in values.items()]

        with run_folder.explain_full_disk(self._run_folder):
            self._series.append(points)
            for point in points:
                self.latest[point.metric] = point.value
                # A resumed run repeats steps that the store has already.
                last_point = self._last_points.get(point.metric)
                if last_point is None or point.step > last_point.step:
                    self._means.add(point)
            means = self._means.take(self._last_step, everything=everything)
            for first in range(0, len(means), _METRICS_PER_ENTRY):
                self._entries.put({"metrics": means[first : first + _METRICS_PER_ENTRY]})
        for point in means:
            self._remember(point)

    def _take_buffer(self) -> list[Point]:
        """Empty the buffer, and return its values in the order in which they were logged."""
        tensors = []
        for _, _, values in self._buffer:
            tensors += [value.detach().float() for value in values.values() if isinstance(value, Tensor)]
        # Device-to-host sync: once per flush.
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])
        points = []
        for step, time_ms, values in self._buffer:
            for name, value in values.items():
                number = next(numbers) if isinstance(value, Tensor) else float(value)
                points.append(Point(self._accepted_name(name), number, time_ms, step))
        if self._buffer:
            self._last_step = self._buffer[-1][0]
        self._buffer.clear()
        return points

    def _accepted_name(self, name: str) -> str:
        if name not in self._accepted_names:
            self._accepted_names[name] = accepted(name)
        return self._accepted_names[name]

    def _remember(self, point: Point) -> None:
        """Add a point that was put into the spool to the history."""
        steps, values = self.history.setdefault(point.metric, ([], []))
        steps.append(point.step)
        values.append(point.value)
        self._last_points[point.metric] = point

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters. Each parameter is logged once."""
        new = {}
        for name, value in values.items():
            accepted_name = accepted(name)
            if accepted_name not in self._params:
                new[accepted_name] = str(value)[:_PARAMETER_LIMIT]
        self._params |= new
        self._put(self._entries, {"params": new})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._put(self._entries, {"tags": _accepted_tags(values)})

    def note(self, markdown: str) -> None:
        """Set the description of the run, which its page shows first. A long note continues in the artifact note.md."""
        if len(markdown) > _NOTE_LIMIT:
            self.text(markdown, "note.md")
            markdown = markdown[: markdown.rfind("\n", 0, _NOTE_LIMIT)] + "\n\n… the rest is in `note.md`."
        self.tags({"mlflow.note.content": markdown})

    def dataset(self, name: str, fingerprint: str, source: str, profile: Mapping[str, object], context: str) -> None:
        """Log a dataset: its name, fingerprint and size. `context` is training, validation or test."""
        digest = fingerprint[:12]
        self._dataset = (name, digest)
        content = {"name": name, "digest": digest, "source": source, "profile": dict(profile), "context": context}
        self._put(self._entries, {"dataset": content})

    def model(
        self,
        program: Path,
        samples: int,
        classes: tuple[str, ...],
        leads: tuple[str, ...],
        fs: float,
        *,
        register: str | None = None,
        alias: str | None = None,
    ) -> None:
        """Log an exported model with the last val and test metrics, and register it if a name is given.

        Parameters
        ----------
        program, samples, classes, leads, fs
            As in `einthoven.tracking.models.export`.
        register, alias : str, optional
            Name in the model registry, and the alias of the new version.
        """
        from einthoven.tracking.models import NAME, export

        path = self._staged_path(NAME)
        export(program, samples, classes, leads, fs, path)
        metrics = [point for name, point in self._last_points.items() if name.startswith(("val/", "test/"))]
        content = {
            "path": str(path.relative_to(self._folder)),
            "params": self._params,
            "metrics": metrics,
            "dataset": self._dataset,
            "register": register,
            "alias": alias,
        }
        self._put(self._files, {"model": content})

    def finish(self, status: str = "FINISHED") -> None:
        """Write and send the rest, and close the run as FINISHED, FAILED or KILLED."""
        last_entry = {"status": {"status": status, "time": _now_ms()}}
        try:
            self.flush(everything=True)
            self._log_series()
            self._put(self._entries, last_entry)
        except (UserError, OSError):
            # The disk is full. The status is sent without the spool.
            with contextlib.suppress(Exception):
                self._delivery([last_entry], False)
            raise
        finally:
            self._end()

    def _log_series(self) -> None:
        """Log the artifact with every value."""
        if len(self._series):
            path = self._staged_path(SERIES)
            self._series.write_parquet(path)
            self._put_file(path, folder_of(SERIES))

    def _end(self) -> None:
        """Send the rest, and note what could not be sent."""
        if self._system is not None:
            self._system.stop()
        if not self._is_offline:
            # The user does not want to wait for the store.
            with contextlib.suppress(KeyboardInterrupt):
                self._entries.drain(self._patience) and self._files.drain(self._patience)
            self.unsent = run_folder.describe_unsent(self.uri, self._run_folder, self._entries, self._files)
            add_unsent(self.unsent)
        self._entries.close()
        self._files.close()
        self._lock.release()


def _accepted_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags with names and lengths that MLflow takes."""
    return {accepted(name): value[:_TAG_LIMIT] for name, value in tags.items()}


def _now_ms() -> int:
    return int(time.time() * 1000)


def error_tag(error: BaseException) -> dict[str, str]:
    """Return the tag of a failed run."""
    return {"error": without_folders(f"{type(error).__name__}: {error}")[:_ERROR_LIMIT]}


@contextmanager
def closing(recorder: Recorder) -> Iterator[Recorder]:
    """Finish the run at the end of the block: FINISHED, KILLED after Ctrl-C, or FAILED with the error as a tag."""
    try:
        yield recorder
    except KeyboardInterrupt:
        recorder.finish("KILLED")
        raise
    except BaseException as error:
        # If the disk is full, `error` says so already.
        with contextlib.suppress(UserError, OSError):
            recorder.tags(error_tag(error))
        with contextlib.suppress(UserError, OSError):
            recorder.finish("FAILED")
        raise
    recorder.finish()
