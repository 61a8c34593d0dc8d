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
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.errors import UserError, store_reason
from einthoven.machine import import_large
from einthoven.tracking import run_folder
from einthoven.tracking.addresses import require_store
from einthoven.tracking.artifact_address import beside_artifacts
from einthoven.tracking.database import require_writable
from einthoven.tracking.delivery import CREATION, Delivery
from einthoven.tracking.earlier import FINISHED, create_again, read_spool, read_store
from einthoven.tracking.files import Files
from einthoven.tracking.metrics import Metrics
from einthoven.tracking.names import accepted
from einthoven.tracking.recorded_models import RecordedModels
from einthoven.tracking.server import reach, without_password
from einthoven.tracking.spool import Spool
from einthoven.tracking.system import SystemMetrics
from einthoven.tracking.unsent import add_unsent

if TYPE_CHECKING:
    from filelock import FileLock

SERIES = "series/metrics.parquet"
"""Artifact with every logged value."""

NOTE_TAG = "mlflow.note.content"
"""Tag with the description of a run, which its page shows first."""

# MLflow takes at most this many characters. A note has room for characters of several bytes.
_TAG_LIMIT = 8000
_NOTE_LIMIT = 5000
_PARAMETER_LIMIT = 6000
_RUN_NAME_LIMIT = 250

_LONGEST_PATIENCE = {"KILLED": 5.0, "FAILED": 0.0}
"""Seconds that the end of such a run waits for a store that does not answer. After a signal, Slurm and Docker wait 10
or 30 seconds for the end of a process. The user of a run that has failed waits for the reason."""


_locks_of_threads: list[FileLock] = []
"""Locks that are kept until the process ends, because a thread could not be ended."""


class Recorder(RecordedModels):
    """Write one run: metrics (`Metrics`), files (`Files`), models (`RecordedModels`), and here the run itself.

    The run has parameters and tags.

    Parameters
    ----------
    uri : str
        Address of the tracking store, such as ``sqlite:///mlflow.db`` or ``http://…``.
    folder : Path
        Folder of the run. Everything is in its ``tracking/`` until the store has it.
    parent : str, optional
        Run id of the parent run.
    run_id : str, optional
        Continue this run. Metrics that it already contains are not written again.
    position : int, optional
        The value of `position` when the checkpoint was written from which the run continues.
    steps, interval : int
        As in `Metrics`.
    patience : float
        Seconds that the end of the run waits for a store that does not answer.
    offline : bool
        Write only to the folder.
    artifact_location : str, optional
        Where a new experiment stores its files.
    system_metrics : bool
        Also log the load and memory of the machine.
    lock : FileLock, optional
        Lock of the folder if the caller has it already (`run_folder.writing`). The recorder holds it, too, until the
        end of the run.

    Attributes
    ----------
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
        system = SystemMetrics() if system_metrics else None
        self.uri = uri
        self.unsent: list[str] = []
        self._patience = patience
        self._is_offline = offline
        self._params: dict[str, str] = {}
        self._dataset: tuple[str, str] | tuple[()] = ()
        self._earlier_end: int | None = None

        # The folder of the run, and the store.
        tracking = folder / "tracking"
        self._delivery = Delivery(tracking, uri)
        self._lock = lock or run_folder.lock(tracking)
        has_ids = (tracking / "run.json").exists()
        # A new run clears the folder of an earlier run.
        if run_id is None and has_ids:
            run_folder.clear(tracking)
        if run_id is not None and not has_ids:
            require_store(folder, uri)
        if (run_id is None and not offline) or (run_id is not None and not has_ids):
            reach(uri)
            require_writable(uri)
        Files.__init__(self, folder, Spool(tracking / "files.jsonl", self._delivery))
        Metrics.__init__(self, folder, Spool(tracking / "entries.jsonl", self._delivery), steps, interval, system)

        # The run in the store. A run that was killed before it could write this down begins anew.
        is_new = run_id is None or (has_ids and not self._delivery.run_id and not self._entries.size)
        if run_id is None or is_new:
            parent_tag = {"mlflow.parentRunId": parent} if parent else {}
            self._create(
                {
                    "experiment": experiment,
                    "name": run_name[:_RUN_NAME_LIMIT],
                    "tags": _accepted_tags({**tags, **parent_tag, CREATION: uuid.uuid4().hex}),
                    "time": _now_ms(),
                    "artifact_location": artifact_location,
                }
            )
        else:
            self._continue(run_id, position, has_ids)
        # A lock that two hold is free when both have released it.
        if lock is not None:
            lock.acquire()
        if not offline:
            self._entries.start()
            self._files.start()

    @property
    def run_id(self) -> str:
        """Id of the run; empty until the store has created it."""
        return self._delivery.run_id

    def _create(self, content: dict[str, Any]) -> None:
        """Put the creation of the run into the spool, and create it in the store unless the run is offline.

        The spool can create the run again in a new store.
        """
        self._delivery.write_ids("", "")
        self._entries.put({"run": content})
        if self._is_offline:
            return
        import_large("mlflow")
        from mlflow.exceptions import MlflowException

        try:
            self._delivery.create(content, may_exist=False)
        except MlflowException as error:
            raise UserError(f"tracking.uri={without_password(self.uri)}: {store_reason(error)}.") from None

    def _continue(self, run_id: str, position: int | None, has_ids: bool) -> None:
        """Continue a run at the position of a checkpoint."""
        # If the folder came without its tracking/, only the store knows what was logged.
        if has_ids:
            earlier = read_spool(self._entries, self._run_folder)
        else:
            earlier = read_store(self._delivery, run_id, self._run_folder)
        self._params = earlier.params
        self._dataset = earlier.dataset
        self._earlier_end = earlier.end_time
        for point in earlier.points:
            self._remember(point)
        self._delivery.refresh_ids()
        if not self._is_offline and not self.run_id:
            create_again(self._delivery, self._entries)
        if position is not None:
            self._series.truncate(position)
        self._earlier_steps = self._series.last_steps()
        last_steps = {name: point.step for name, point in self._last_points.items()}
        for point in self._series.after(last_steps):
            self._means.add(point)
        self._entries.put({"status": {"status": "RUNNING"}})

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
        """Set the description of the run. A long note continues in the artifact note.md.

        A picture in it is an artifact of the run: `artifact_address`.
        """
        if len(markdown) > _NOTE_LIMIT:
            self.text(beside_artifacts(markdown), "note.md")
            last_line_end = markdown.rfind("\n", 0, _NOTE_LIMIT)
            # A single line, such as the message of an error, can be too long.
            end = last_line_end if last_line_end > 0 else _NOTE_LIMIT
            markdown = f"{markdown[:end]}\n\n… the rest is in `note.md`."
        self.tags({NOTE_TAG: markdown})

    def dataset(self, name: str, fingerprint: str, source: str, profile: Mapping[str, object], context: str) -> None:
        """Log a dataset: its name, fingerprint and size. `context` is training, validation or test."""
        digest = fingerprint[:12]
        self._dataset = (name, digest)
        content = {"name": name, "digest": digest, "source": source, "profile": dict(profile), "context": context}
        self._put(self._entries, {"dataset": content})

    def hurry(self) -> None:
        """Send what was logged until now without a pause. The caller does not wait for it."""
        self._entries.hurry()
        self._files.hurry()

    def finish(self, status: str = FINISHED) -> None:
        """Write and send the rest, and close the run as FINISHED, FAILED or KILLED.

        A finished run gets its status after all its files are sent, or after the store did not take them. If results
        are added to a run that was FINISHED, its end time and so its duration stay those of the training.
        """
        end_time = _now_ms()
        if status == FINISHED and self._earlier_end is not None:
            end_time = self._earlier_end
        last_entry = {"status": {"status": status, "time": end_time}}
        is_killed = status == "KILLED"
        patience = min(self._patience, _LONGEST_PATIENCE.get(status, self._patience))
        try:
            try:
                # An interrupted run may be continued. Then the means go on that have not ended.
                self.flush(everything=not is_killed)
                self._put_series()
            except KeyboardInterrupt:
                # Also a second Ctrl-C leaves a status.
                last_entry["status"]["status"] = "KILLED"
                self._put(self._entries, last_entry)
                raise
            self.hurry()
            # A store that has not answered now is not waited for once more.
            if status == FINISHED and not self._send_files(patience):
                patience = 0.0
            self._put(self._entries, last_entry)
        except (UserError, OSError):
            # The disk is full. The status is sent without the spool.
            with contextlib.suppress(Exception):
                self._delivery([last_entry], False)
            raise
        finally:
            self._end(patience)

    def _send_files(self, patience: float) -> bool:
        """Send all files. Return whether the store has taken them."""
        if self._is_offline:
            return True
        # The user does not want to wait for the store.
        with contextlib.suppress(KeyboardInterrupt):
            return self._files.drain(patience, self._say_waiting(patience))
        return False

    def _say_waiting(self, patience: float) -> Callable[[Exception], None] | None:
        """Return what says that the end of the run waits for the store; None if it does not wait."""
        return partial(run_folder.say_waiting, self.uri, patience) if patience else None

    def _put_series(self) -> None:
        """Log the artifact with every value."""
        if len(self._series):
            with self._staging(SERIES) as path:
                self._series.write_parquet(path)

    def _end(self, patience: float) -> None:
        """Send the rest, and note what could not be sent."""
        if self._system is not None:
            self._system.stop()
        if not self._is_offline:
            # The user does not want to wait for the store.
            with contextlib.suppress(KeyboardInterrupt):
                say_waiting = self._say_waiting(patience)
                self._entries.drain(patience, say_waiting) and self._files.drain(patience, say_waiting)
            self.unsent = run_folder.describe_unsent(self.uri, self._run_folder, self._entries, self._files)
            add_unsent(self.unsent)
        have_ended = [spool.close() for spool in (self._entries, self._files)]
        if all(have_ended):
            self._lock.release()
        else:
            # A thread still writes to the run in the store. Nothing else may do that as long as this process lives.
            _locks_of_threads.append(self._lock)


def _accepted_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags with names and lengths that MLflow takes."""
    return {accepted(name): value[:_TAG_LIMIT] for name, value in tags.items()}


def _now_ms() -> int:
    return int(time.time() * 1000)
