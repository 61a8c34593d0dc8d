"""Processes that may be lost: each answers for one record at a time, under limits of time and memory.

A file that makes a reader hang, or take all memory, costs the process that reads it; the next one is forked from a
server that has imported everything. Between the processes goes JSON, so that nothing that a worker says is run.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from einthoven.errors import UserError
from einthoven.trust import trusted

START_SECONDS = 120.0  # of a worker, with all imports, on a slow disk
GIBIBYTE = 2**30
PRELOADED = [
    "einthoven.app.answer",
    "matplotlib.backends.backend_svg",
    "matplotlib.patheffects",
    "scipy.ndimage",
    "scipy.signal",
    "scipy.special",
]
OK, REFUSED, FAILED = 200, 422, 500


@dataclass(frozen=True)
class Limits:
    """What one request may take.

    Attributes
    ----------
    megabytes : float
        Of all its files together.
    seconds : float
        For sending them, and again for the answer.
    memory : int
        Bytes of a worker.
    workers : int
        Records that are answered for at once.
    waiting : int
        Requests that may wait for a worker; those beyond are told to come again.
    """

    megabytes: float = 32.0
    seconds: float = 30.0
    memory: int = 2 * GIBIBYTE
    workers: int = 2
    waiting: int = 8

    @property
    def bytes(self) -> int:
        """Of all files of a request."""
        return int(self.megabytes * 1e6)


class Worker:
    """One process, replaced when it is lost.

    Parameters
    ----------
    paths : sequence of Path
        Bundles; without any, the one that comes with the package.
    limits : Limits

    Raises
    ------
    UserError
        If the bundles cannot be loaded.
    """

    def __init__(self, paths: Sequence[Path], limits: Limits) -> None:
        self._paths, self._limits, self._closed = paths, limits, False
        self._start()
        status, self.about = self._wait(START_SECONDS)
        if status != OK:
            raise UserError(json.loads(self.about)["error"])

    def ask(self, job: Mapping[str, Any]) -> tuple[int, bytes]:
        """Status and JSON of the answer for a job, as `_do` takes it; one that takes too much is an error, too."""
        try:
            self._pipe.send_bytes(json.dumps(job).encode())
            return self._wait(self._limits.seconds)
        except TimeoutError:
            return self._lost(f"not answered within {self._limits.seconds:g} s; expected a shorter recording.")
        except (EOFError, OSError):
            gib = self._limits.memory / GIBIBYTE
            return self._lost(f"not answered: reading it took more than {gib:g} GiB of memory, or ended the process.")

    def close(self) -> None:
        """End the process for good."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._pipe, theirs = context.Pipe()
        threads = max((os.cpu_count() or 1) // self._limits.workers, 1)
        arguments = (theirs, self._paths, self._limits.memory, threads, trusted())
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def _wait(self, seconds: float) -> tuple[int, bytes]:
        if not self._pipe.poll(seconds):
            raise TimeoutError
        reply = self._pipe.recv_bytes()
        return int(reply[:3]), reply[3:]

    def _lost(self, sentence: str) -> tuple[int, bytes]:
        self._end()
        if not self._closed:
            self._start()
            try:
                self._wait(START_SECONDS)  # what it has to say of itself is known
            except (TimeoutError, EOFError, OSError):  # said later, it would be taken for an answer
                self._end()  # the next request finds it gone, and starts another
        return REFUSED, json.dumps({"error": sentence}).encode()


class Pool:
    """Workers that take turns.

    Parameters
    ----------
    paths, limits
        As of `Worker`.
    """

    def __init__(self, paths: Sequence[Path], limits: Limits) -> None:
        self.limits = limits
        self._workers = [Worker(paths, limits) for _ in range(limits.workers)]
        self._threads = ThreadPoolExecutor(limits.workers)  # of its own: nothing waits for it at the end
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        for worker in self._workers:
            self._idle.put_nowait(worker)
        self.about: dict[str, Any] = json.loads(self._workers[0].about)

    def __enter__(self) -> Self:
        """Be there."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()

    async def ask(self, job: Mapping[str, Any]) -> tuple[int, bytes]:
        """Status and JSON of the answer, of the first worker that is idle."""
        worker = await self._idle.get()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, worker.ask, job)
        finally:
            self._idle.put_nowait(worker)


def _work(pipe: Connection, paths: Sequence[Path], memory: int, threads: int, modules: Sequence[str]) -> None:
    """Answer jobs until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the server ends its workers itself
    import torch

    from einthoven.app.answer import about
    from einthoven.predict import load_bundle

    torch.set_num_threads(threads)
    try:
        predictor = load_bundle(*paths, trust=modules)
    except UserError as error:
        pipe.send_bytes(_reply(REFUSED, {"error": str(error)}))
        return
    _limit(resource.RLIMIT_DATA, memory)
    _limit(resource.RLIMIT_CORE, 0)  # a lost process leaves nothing of what it read
    pipe.send_bytes(_reply(OK, about(predictor)))
    with suppress(EOFError):
        while True:
            pipe.send_bytes(_do(predictor, json.loads(pipe.recv_bytes())))


def _do(predictor: Any, job: Mapping[str, Any]) -> bytes:
    """One job: what `answer` takes, and ``example`` where the record is to be generated first."""
    from einthoven.app.answer import answer, write_example

    folder = Path(job["folder"])
    try:
        if job["example"] is not None:
            write_example(folder, job["example"])
        return _reply(OK, answer(predictor, folder, job["reading"], job["start_s"], job["explain"]))
    except UserError as error:
        return _reply(REFUSED, {"error": str(error)})
    except MemoryError:
        os._exit(1)
    except Exception as error:  # a fault of this program; the next file may be answered
        return _reply(FAILED, {"error": f"not answered: a fault of this program ({type(error).__name__})."})


def _reply(status: int, content: Mapping[str, Any]) -> bytes:
    return b"%d" % status + json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
