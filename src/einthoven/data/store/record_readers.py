"""Several processes read records, and one writes them: reading and hashing take most of the time of a build."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.interrupts import follow
from einthoven.machine import usable_cores

R = TypeVar("R")

FEWEST = 1000  # with fewer records, starting processes takes longer than they save
MOST_PROCESSES = 16  # one process writes what the others read
AT_ONCE = 32  # records that a process reads before it hands them over

_read: Callable[[int], object] | None = None


def read_all(rows: NDArray[np.int64], read: Callable[[int], R]) -> Generator[R, None, None]:
    """Yield ``read(row)`` for all rows in their order. On Linux, all cores read if there are many rows.

    Parameters
    ----------
    rows : ndarray of int64
    read : callable
        It must not use torch: its threads do not survive a fork.

    Raises
    ------
    UserError
        If the system has ended a process.
    """
    processes = min(usable_cores(), MOST_PROCESSES)
    # A forked process starts at once, and needs no copy of the plan. Other systems do not fork safely.
    if processes == 1 or len(rows) < FEWEST or not sys.platform.startswith("linux"):
        yield from (read(int(row)) for row in rows)
        return
    context = multiprocessing.get_context("fork")
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(os.getpid(), read))
    try:
        # A few parts per process are on their way, so that memory does not grow if writing is slower than reading.
        waiting: deque[Future[list[Any]]] = deque()
        for start in range(0, len(rows), AT_ONCE):
            waiting.append(executor.submit(_read_part, rows[start : start + AT_ONCE].tolist()))
            if len(waiting) > 2 * processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "the system has ended a process that reads records, perhaps for lack of memory; what is packed is kept, "
            "and the next command continues."
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def _begin(parent: int, read: Callable[[int], object]) -> None:
    """Prepare a process that reads. It ends with its parent, and leaves Ctrl-C to it."""
    global _read
    _read = read
    follow(parent)


def _read_part(rows: Sequence[int]) -> list[object]:
    assert _read is not None
    return [_read(row) for row in rows]
