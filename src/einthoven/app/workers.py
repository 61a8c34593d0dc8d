"""Worker processes that may be lost. Each answers one request at a time, with limits of time and memory.

A file that makes a reader hang or takes all memory costs only the process that reads it. The next process is forked
from a server that has imported everything. The processes exchange JSON, so that nothing that a worker sends is run.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from einthoven.errors import UserError
from einthoven.machine import usable_cores
from einthoven.trust import trusted

START_SECONDS = 120.0
"""Seconds that a worker may take to start, with all imports, on a slow disk."""

GIBIBYTE = 2**30
PRELOADED = [
    "einthoven.app.answer",
    "scipy.ndimage",
    "scipy.signal",
    "scipy.special",
]

# HTTP status of a reply of a worker.
OK = 200
REFUSED = 422
FAILED = 500


@dataclass(frozen=True)
class Limits:
    """Limits of one request.

    Attributes
    ----------
    megabytes : float
        Size of all its files together.
    seconds : float
        Time for the upload, and again for the answer.
    memory : int
        Memory of a worker in bytes.
    workers : int
        Number of requests that are answered at once.
    waiting : int
        Number of requests that may wait for a worker. Further requests are asked to try again later.
    """

    megabytes: float = 32.0
    seconds: float = 30.0
    memory: int = 2 * GIBIBYTE
    workers: int = 2
    waiting: int = 8

    @property
    def bytes(self) -> int:
        """Size of all files of a request."""
        return int(self.megabytes * 1e6)


class Worker:
    """One process. It is replaced when it is lost.

    Parameters
    ----------
    paths : sequence of Path
        Folders of bundles; empty for the bundle of the package.
    limits : Limits

    Raises
    ------
    UserError
        If the bundles cannot be loaded.
    """

    def __init__(self, paths: Sequence[Path], limits: Limits) -> None:
        self._paths = paths
        self._limits = limits
        self._is_closed = False
        self._start()
        status, self.about = self._receive(START_SECONDS)
        if status != OK:
            raise UserError(json.loads(self.about)["error"])

    def ask(self, job: Mapping[str, Any]) -> tuple[int, bytes]:
        """Return the status and the JSON of the answer to a job, as `_answer_job` reads it.

        A job that takes too much time or memory gets an answer with an error.
        """
        try:
            self._pipe.send_bytes(json.dumps(job).encode())
            return self._receive(self._limits.seconds)
        except TimeoutError:
            return self._replace(f"not answered within {self._limits.seconds:g} s; expected a shorter recording.")
        except (EOFError, OSError):
            gib = self._limits.memory / GIBIBYTE
            return self._replace(
                f"not answered: reading it took more than {gib:g} GiB of memory, or ended the process."
            )

    def close(self) -> None:
        """End the process. It is not replaced."""
        self._is_closed = True
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._pipe, worker_pipe = context.Pipe()
        threads = max(usable_cores() // self._limits.workers, 1)
        arguments = (worker_pipe, self._paths, self._limits.memory, threads, trusted())
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        worker_pipe.close()

    def _receive(self, seconds: float) -> tuple[int, bytes]:
        """Wait for a reply of the process."""
        if not self._pipe.poll(seconds):
            raise TimeoutError
        reply = self._pipe.recv_bytes()
        return int(reply[:3]), reply[3:]

    def _replace(self, error: str) -> tuple[int, bytes]:
        """End the process, start another one, and return the answer with an error."""
        self._end()
        if not self._is_closed:
            self._start()
            try:
                # The first reply describes the model, which is known. Later, it would be mistaken for an answer.
                self._receive(START_SECONDS)
            except (TimeoutError, EOFError, OSError):
                # The next request finds no process, and starts another one.
                self._end()
        return REFUSED, json.dumps({"error": error}).encode()


class Pool:
    """Workers that answer in turn.

    Parameters
    ----------
    paths, limits
        As in `Worker`.
    """

    def __init__(self, paths: Sequence[Path], limits: Limits) -> None:
        self.limits = limits
        self._workers = [Worker(paths, limits) for _ in range(limits.workers)]
        # With an executor of its own, nothing waits for a worker when the server ends.
        self._threads = ThreadPoolExecutor(limits.workers)
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        for worker in self._workers:
            self._idle.put_nowait(worker)
        self.about: dict[str, Any] = json.loads(self._workers[0].about)

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()

    async def ask(self, job: Mapping[str, Any]) -> tuple[int, bytes]:
        """Return the status and the JSON of the answer of the first idle worker."""
        worker = await self._idle.get()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, worker.ask, job)
        finally:
            self._idle.put_nowait(worker)


def _work(pipe: Connection, paths: Sequence[Path], memory: int, threads: int, modules: Sequence[str]) -> None:
    """Answer jobs until the pipe is closed."""
    # Ctrl-C in the terminal ends the server, which ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from einthoven.app.answer import describe_model
    from einthoven.predict import load_bundle
    from einthoven.predict.delineator import load_delineator

    torch.set_num_threads(threads)
    try:
        predictor = load_bundle(*paths, trust=modules)
        delineator = load_delineator()
    except UserError as error:
        pipe.send_bytes(_reply(REFUSED, {"error": str(error)}))
        return
    _limit(resource.RLIMIT_DATA, memory)
    # A lost process must not write the data of a patient into a core dump.
    _limit(resource.RLIMIT_CORE, 0)
    pipe.send_bytes(_reply(OK, describe_model(predictor)))
    with suppress(EOFError):
        while True:
            pipe.send_bytes(_answer_job(predictor, delineator, json.loads(pipe.recv_bytes())))


def _answer_job(predictor: Any, delineator: Any, job: Mapping[str, Any]) -> bytes:
    """Answer one job: the arguments of `answer`, and ``example``, the number of a record to generate first."""
    from einthoven.app.answer import RefusedError, answer, write_example

    folder = Path(job["folder"])
    try:
        if job["example"] is not None:
            write_example(folder, job["example"])
        return _reply(OK, answer(predictor, delineator, folder, job["reading"], job["start_s"], job["explain"]))
    except RefusedError as error:
        return _reply(REFUSED, {"error": str(error), "record": error.record})
    except UserError as error:
        return _reply(REFUSED, {"error": str(error)})
    except MemoryError:
        os._exit(1)
    except Exception as error:
        # This is a fault of the program. The worker may be able to answer for the next file.
        # The terminal of `einthoven app` shows where it happened, without the message: it may name a file or a patient.
        traceback.print_tb(error.__traceback__)
        print(f"einthoven: {type(error).__name__} while a record was answered", file=sys.stderr, flush=True)
        return _reply(FAILED, {"error": f"not answered: a fault of this program ({type(error).__name__})."})


def _reply(status: int, content: Mapping[str, Any]) -> bytes:
    return b"%d" % status + json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def _limit(kind: int, limit: int) -> None:
    """Set a limit of this process, but not above the limit that the system sets."""
    _, hard_limit = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit if hard_limit == resource.RLIM_INFINITY else min(limit, hard_limit), hard_limit))
