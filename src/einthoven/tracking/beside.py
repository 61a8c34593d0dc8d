"""Do some work in a copy of this process, while this process does something else."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from einthoven.interrupts import follow
from einthoven.machine import usable_cores

LONGEST_WAIT = 120.0
"""Seconds that a copy may need after the block. A copy that waits for a lock of another thread would never end."""

_PAUSE = 0.01


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do some work in a copy of this process while the block runs. After the block, the files of the work are there.

    The copy has only the thread that calls this. So the work may write files and compute with NumPy in one thread, but
    it must use neither torch nor a connection. It may be done twice: what the copy cannot do is done here after the
    block, so that its error is raised here. With one core, and on other systems than Linux, all is done here. The copy
    ends with this process, however that ends.
    """
    if sys.platform != "linux" or usable_cores() == 1:
        yield
        work()
        return

    process = _start_copy(work)
    try:
        yield
        is_done = _has_done_its_work(process)
    except BaseException:
        _end(process)
        raise
    if not is_done:
        work()


def _start_copy(work: Callable[[], None]) -> int:
    """Start a copy of this process that does some work and ends, and return its number."""
    parent = os.getpid()
    # Python warns that a lock of another thread stays locked in the copy. The work takes none of them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process:
        return process

    # Nothing may leave the copy: it would do what this process does, such as closing the run.
    status = 1
    try:
        # A terminal sends Ctrl-C to the copy, too. This process decides what happens.
        follow(parent)
        gc.disable()
        work()
        status = 0
    finally:
        os._exit(status)


def _has_done_its_work(process: int) -> bool:
    """Wait for the end of a copy, and return whether it has done its work in time."""
    deadline = time.monotonic() + LONGEST_WAIT
    try:
        while time.monotonic() < deadline:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return status == 0
            time.sleep(_PAUSE)
    except ChildProcessError:
        # This process was started with the wish to hear nothing of the end of its children (``SIGCHLD``).
        return False
    _end(process)
    return False


def _end(process: int) -> None:
    """End a copy."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
