"""Ctrl-C (SIGINT) and SIGTERM, which Slurm and Docker send: both end a command in the same orderly way.

Python runs a signal handler between any two instructions, so that a `KeyboardInterrupt` can leave a file half written.
Inside of `deferred` it waits until the block ends. Who presses Ctrl-C twice does not wait.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_AGAIN_SECONDS = 0.3
"""Time until a signal is sent again. It must not arrive before the callback has ended, also on a busy machine."""

_GRACE_SECONDS = 5.0
"""Time that a program has to end after SIGTERM."""

_BETWEEN_LOOKS = 0.05

_SIGNAL_OF_PARENT_DEATH = 1
"""Number of Linux for the signal that a process gets when its parent dies (``PR_SET_PDEATHSIG``)."""

_Handler = Callable[[int, FrameType | None], Any] | int | None


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM. Whoever treats a `KeyboardInterrupt` treats this in the same way."""


class _Deferral:
    """The signals that wait for the end of a block.

    Attributes
    ----------
    notice : str
        Printed when the first signal is received.
    waiting : list of int
        Numbers of the signals that were received in the block.
    handlers : dict of int to handler
        The handlers that the signals have outside of the block.
    """

    def __init__(self, notice: str) -> None:
        self.notice = notice
        self.waiting: list[int] = []
        self.handlers: dict[int, _Handler] = {}

    def note(self, number: int, frame: FrameType | None) -> None:
        """Let the first signal wait. Deliver the second one at once."""
        self.waiting.append(number)
        if len(self.waiting) > 1:
            _deliver(number, self.handlers[number])
        elif self.notice:
            # Python refuses to print if the signal has interrupted another print.
            with suppress(RuntimeError):
                print(f"einthoven: {self.notice}", file=sys.stderr)


# Signal handlers belong to the process, so this does, too. None: no block is running.
_running: _Deferral | None = None


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` in the block when the process receives SIGTERM, instead of ending at once.

    Python ignores an exception in a callback of the garbage collector. A signal that arrives there is sent again.
    """
    if not _is_main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    def send_again(ignored: sys.UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            previous_hook(ignored)
            return
        number = signal.SIGTERM if issubclass(ignored.exc_type, Terminated) else signal.SIGINT
        timer = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    previous_hook = sys.unraisablehook
    previous = signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = previous_hook
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def deferred(notice: str = "") -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block ends. Then a signal that was received raises KeyboardInterrupt.

    In a block inside of another one, they wait for the end of the outer block. Only the main thread receives signals,
    so that other threads need no protection. A block that takes longer than a moment has a notice, which is printed
    when the first signal is received.
    """
    global _running
    if _running is not None or not _is_main_thread():
        yield
        return
    deferral = _Deferral(notice)
    for signal_number in _SIGNALS:
        # A shell lets the jobs in the background of a script ignore SIGINT. They still ignore it in the block.
        if signal.getsignal(signal_number) != signal.SIG_IGN:
            deferral.handlers[signal_number] = signal.signal(signal_number, deferral.note)
    _running = deferral
    is_interrupted = False
    try:
        yield
    except KeyboardInterrupt:
        is_interrupted = True
        raise
    finally:
        _running = None
        for number, handler in deferral.handlers.items():
            signal.signal(number, handler)
        if deferral.waiting and not is_interrupted:
            first = deferral.waiting[0]
            _deliver(first, deferral.handlers[first])


@contextmanager
def program_group(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and end it and every process that it has started at the end of the block.

    The program has a process group of its own. Ctrl-C and SIGTERM reach this process only, and end the block. So does
    SIGHUP, the signal of a terminal that was closed. `environment` has all variables of the program.
    """

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    process = subprocess.Popen(command, env=environment, process_group=0)
    previous = signal.signal(signal.SIGHUP, terminate) if _is_main_thread() else None
    try:
        yield process
    finally:
        try:
            _end_group(process)
        finally:
            if previous is not None:
                signal.signal(signal.SIGHUP, previous)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to the group of a process, and SIGKILL after a while or a second Ctrl-C."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    end = time.monotonic() + _GRACE_SECONDS
    try:
        while _has_members(process) and time.monotonic() < end:
            time.sleep(_BETWEEN_LOOKS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _has_members(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the group of a process has any member."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def follow(parent: int) -> None:
    """Let this process end with the process that has forked it, and leave Ctrl-C to that one. For Linux."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SIGNAL_OF_PARENT_DEATH, signal.SIGKILL)
    # The parent may have ended before.
    if os.getppid() != parent:
        os._exit(1)


def is_waiting() -> bool:
    """Return whether a signal waits for the end of the block of `deferred` that is running."""
    return _running is not None and bool(_running.waiting)


def deliver_waiting() -> None:
    """End the block of `deferred` that is running by KeyboardInterrupt, if a signal waits for its end."""
    if _running is not None and _running.waiting:
        number = _running.waiting[0]
        _deliver(number, _running.handlers[number])


def _deliver(number: int, handler: _Handler) -> None:
    """Do what a signal does outside of the block."""
    if callable(handler):
        handler(number, sys._getframe())
    elif handler == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
