"""Do some work in a copy of this process, while this process does something else."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from einthoven.interrupts import follow
from einthoven.machine import usable_cores


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do some work in a copy of this process while the block runs. After the block, the work is done.

    The copy has only the thread that calls this. So the work may write files and compute with NumPy in one thread, but
    it must use neither torch nor a connection. It may be done twice: what the copy cannot do is done here after the
    block, so that its error is raised here. With one core, and on other systems than Linux, all is done here.

    The copy ends with this process, however that ends.

    Parameters
    ----------
    work : callable
        Its results are files.
    """
    if sys.platform != "linux" or usable_cores() == 1:
        yield
        work()
        return

    process = _start_copy(work)
    try:
        yield
        is_done = _wait(process)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        _wait(process)
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


def _wait(process: int) -> bool:
    """Wait for the end of a copy, and return whether it has done its work."""
    try:
        return os.waitpid(process, 0)[1] == 0
    except ChildProcessError:
        # This process was started with the wish to hear nothing of the end of its children (``SIGCHLD``).
        return False
