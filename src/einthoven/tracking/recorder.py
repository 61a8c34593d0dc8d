"""One MLflow run: metrics, parameters, pictures, files, the exported model.

Everything is written into the run's folder first, and from there to the tracking store by threads that the training
never waits for:

    record -> buffer -> flush -> series.bin (every value) -> metrics.parquet, an artifact
                              -> means over intervals      -> entries.jsonl -> the store
    params, tags, datasets ------------------------------------^
    figures, tables, files, the model -------------------> files.jsonl   -> the artifact store
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
from einthoven.tracking.server import reach, shown
from einthoven.tracking.spool import Spool
from einthoven.tracking.system import SystemMetrics
from einthoven.tracking.unsent import add_unsent

if TYPE_CHECKING:
    from filelock import FileLock

SERIES = "series/metrics.parquet"
"""Artifact with every recorded value."""

POINTS = 5000
"""Most points of a metric of every step in the store."""

_BATCH = 1000  # metrics in one entry
_LONGEST_TAG = 8000  # what MLflow takes
_LONGEST_NOTE = 5000  # the same, with room for characters of several bytes
_LONGEST_PARAMETER = 6000  # what MLflow takes
_LONGEST_RUN_NAME = 250  # of the column of a database


class Recorder(Files):
    """Writes one run. `record` only buffers: device tensors stay where they are until `flush` moves them at once.

    Parameters
    ----------
    uri : str
        Tracking store, such as ``sqlite:///mlflow.db`` or ``http://…``.
    experiment, run_name : str
    folder : Path
        The run's own folder: everything is in ``tracking/`` there until the store has it.
    tags : mapping
    parent : str, optional
        Run id of the parent run.
    run_id : str, optional
        Continue this run: what it already holds of a metric up to some step is not written twice.
    position : int, optional
        Of the checkpoint that the run continues from: as `position` was then.
    steps : int
        Steps that are planned; beyond `POINTS`, series are thinned (`Means`).
    interval : int
        Recorded steps between two flushes.
    patience : float
        Seconds that the end of the run waits for a store that does not answer.
    offline : bool
        Write to the folder alone.
    artifact_location : str, optional
        Where a new experiment keeps its files.
    system_metrics : bool
        Sample load and memory of the machine too.
    lock : FileLock, optional
        Of the folder, if the caller holds it already (`run_folder.writing`). It is released at the end of the run.

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
        self.uri, self.interval, self.latest = uri, interval, dict[str, float]()
        self.history: dict[str, tuple[list[int], list[float]]] = {}
        # After the run has ended: sentences about what the store does not have.
        self.unsent: list[str] = []
        self._patience, self._offline = patience, offline
        self._buffer: list[tuple[int, int, dict[str, Tensor | float]]] = []
        self._names: dict[str, str] = {}
        self._step = 0  # the last that was recorded
        self._last: dict[str, Point] = {}  # that was put into the spool, of each metric
        self._params: dict[str, str] = {}
        self._dataset: tuple[str, str] | tuple[()] = ()
        self._means = Means(steps, POINTS)
        own = folder / "tracking"
        self._delivery = Delivery(own, uri)
        self._lock = lock or run_folder.lock(own)
        known = (own / "run.json").exists()
        if run_id is None and known:  # another run had the same folder
            run_folder.clear(own)
        if (run_id is None and not offline) or (run_id is not None and not known):
            reach(uri)
        super().__init__(folder, Spool(own / "files.jsonl", self._delivery))
        self._entries = Spool(own / "entries.jsonl", self._delivery)
        self._series = SeriesFile(own)
        if run_id is None:
            links = {"mlflow.parentRunId": parent} if parent else {}
            self._open(
                {
                    "experiment": experiment,
                    "name": run_name[:_LONGEST_RUN_NAME],
                    "tags": _short({**tags, **links}),
                    "time": _now(),
                    "artifact_location": artifact_location,
                }
            )
        else:
            self._continue(run_id, position, known)
        if not offline:
            self._entries.start()
            self._files.start()

    @property
    def run_id(self) -> str:
        """Id of the run; empty as long as the store has not made it."""
        return self._delivery.run_id

    @property
    def experiment_id(self) -> str:
        """Id of its experiment; empty as long as there is no run."""
        return self._delivery.experiment_id

    @property
    def position(self) -> int:
        """How much has been written; a checkpoint keeps it, so that a run which continues there goes back to it."""
        self._series.sync()
        return len(self._series)

    def _open(self, wanted: dict[str, Any]) -> None:
        if self._offline:
            self._delivery.identify("", "")
            self._entries.put({"run": wanted})
            return
        from mlflow.exceptions import MlflowException

        try:
            self._delivery.create(wanted)
        except MlflowException as error:
            raise UserError(f"tracking.uri={shown(self.uri)}: {first_line(error)}") from None

    def _continue(self, run_id: str, position: int | None, known: bool) -> None:
        points: list[Point] = []
        if known:
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
        else:  # the folder came without its tracking/: what the store has is what is known
            client = self._delivery.client
            run = client.get_run(run_id)
            self._delivery.identify(run_id, str(run.info.experiment_id))
            self._params = dict(run.data.params)
            points = [
                Point(name, m.value, m.timestamp, m.step)
                for name in run.data.metrics
                for m in sorted(client.get_metric_history(run_id, name), key=lambda m: m.step)
            ]
        for point in points:
            self._remember(point)
        if position is not None:
            self._series.truncate(position)
        for point in self._series.after({name: p.step for name, p in self._last.items()}):
            self._means.add(point)
        self._entries.put({"status": {"status": "RUNNING"}})

    def record(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        """Note metrics of a step. Tensors must be scalars; nothing waits for the device."""
        if values:
            self._buffer.append((step, _now(), dict(values)))
        if len(self._buffer) >= self.interval:
            self.flush()

    def flush(self, *, everything: bool = False) -> None:
        """Move what is buffered to the host in one transfer, and write it to the run's folder.

        Parameters
        ----------
        everything : bool
            Also the means of intervals that have not ended; for the end of a training.

        Raises
        ------
        UserError
            If the disk is full.
        """
        tensors = [
            v.detach().float() for _, _, values in self._buffer for v in values.values() if isinstance(v, Tensor)
        ]
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])  # sync: once per flush
        points = [
            Point(self._name(name), next(numbers) if isinstance(value, Tensor) else float(value), now, step)
            for step, now, values in self._buffer
            for name, value in values.items()
        ]
        if self._buffer:
            self._step = self._buffer[-1][0]
        self._buffer.clear()
        if self._system is not None:  # samples have times of their own, and stand at the step of this flush
            points += [
                Point(name, v, now, self._step) for now, values in self._system.take() for name, v in values.items()
            ]
        with run_folder.full_disk_told(self._run_folder):
            self._series.append(points)
            for point in points:
                self.latest[point.metric] = point.value
                before = self._last.get(point.metric)
                if before is None or point.step > before.step:
                    self._means.add(point)
            means = self._means.take(self._step, everything=everything)
            for first in range(0, len(means), _BATCH):
                self._entries.put({"metrics": means[first : first + _BATCH]})
        for point in means:
            self._remember(point)

    def _name(self, given: str) -> str:
        if given not in self._names:
            self._names[given] = accepted(given)
        return self._names[given]

    def _remember(self, point: Point) -> None:
        steps, series = self.history.setdefault(point.metric, ([], []))
        steps.append(point.step)
        series.append(point.value)
        self._last[point.metric] = point

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters (once each)."""
        named = {accepted(name): str(value)[:_LONGEST_PARAMETER] for name, value in values.items()}
        new = {name: value for name, value in named.items() if name not in self._params}
        self._params |= new
        self._put(self._entries, {"params": new})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._put(self._entries, {"tags": _short(values)})

    def note(self, markdown: str) -> None:
        """Set the description of the run, the first thing on its page; a long one goes on in the artifact note.md."""
        if len(markdown) > _LONGEST_NOTE:
            self.text(markdown, "note.md")
            markdown = markdown[: markdown.rfind("\n", 0, _LONGEST_NOTE)] + "\n\n… the rest is in `note.md`."
        self.tags({"mlflow.note.content": markdown})

    def dataset(self, name: str, fingerprint: str, source: str, profile: Mapping[str, object], context: str) -> None:
        """Log a dataset input: its name, fingerprint and size as used for `context` (training, validation, test)."""
        self._dataset = (name, fingerprint[:12])
        entry = {"name": name, "digest": fingerprint[:12], "source": source, "profile": dict(profile)}
        self._put(self._entries, {"dataset": {**entry, "context": context}})

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
        """Log an exported model with the last val and test metrics, and register it under a name if asked for.

        Parameters
        ----------
        program, samples, classes, leads, fs
            As in `einthoven.tracking.models.export`.
        register, alias : str, optional
            Name in the model registry, and the alias that its new version gets there.
        """
        from einthoven.tracking.models import NAME, export

        path = self._staged(NAME)
        export(program, samples, classes, leads, fs, path)
        content = {
            "path": str(path.relative_to(self._folder)),
            "params": self._params,
            "metrics": [point for name, point in self._last.items() if name.startswith(("val/", "test/"))],
            "dataset": self._dataset,
            "register": register,
            "alias": alias,
        }
        self._put(self._files, {"model": content})

    def finish(self, status: str = "FINISHED") -> None:
        """Write the rest, send it, and close the run as FINISHED, FAILED or KILLED."""
        end = {"status": {"status": status, "time": _now()}}
        try:
            self.flush(everything=True)
            self._log_series()
            self._put(self._entries, end)
        except (UserError, OSError):  # no room to write it down
            with contextlib.suppress(Exception):
                self._delivery([end], False)
            raise
        finally:
            self._end()

    def _log_series(self) -> None:
        if len(self._series):
            path = self._staged(SERIES)
            self._series.write_parquet(path)
            self._file(path, folder_of(SERIES))

    def _end(self) -> None:
        """Send what is left, and say so if that is not possible."""
        if self._system is not None:
            self._system.stop()
        if not self._offline:
            with contextlib.suppress(KeyboardInterrupt):  # somebody does not want to wait
                self._entries.drain(self._patience) and self._files.drain(self._patience)
            self.unsent = run_folder.left(self.uri, self._run_folder, self._entries, self._files)
            add_unsent(self.unsent)
        self._entries.close()
        self._files.close()
        self._lock.release()


def _short(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as MLflow takes them."""
    return {accepted(name): value[:_LONGEST_TAG] for name, value in tags.items()}


def _now() -> int:
    return int(time.time() * 1000)


def error_tag(error: BaseException) -> dict[str, str]:
    """The tag of a run that failed."""
    return {"error": without_folders(f"{type(error).__name__}: {error}")[:4000]}


@contextmanager
def closing(recorder: Recorder) -> Iterator[Recorder]:
    """Finish the run however the block ends: FINISHED, KILLED on Ctrl-C, FAILED with the error as a tag."""
    try:
        yield recorder
    except KeyboardInterrupt:
        recorder.finish("KILLED")
        raise
    except BaseException as error:
        full = (UserError, OSError)  # a full disk is what `error` tells
        with contextlib.suppress(*full):
            recorder.tags(error_tag(error))
        with contextlib.suppress(*full):
            recorder.finish("FAILED")
        raise
    recorder.finish()
