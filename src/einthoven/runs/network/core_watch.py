"""Notice that other processes use the cores of a training: let threads wait in another way, and say what to do."""

from __future__ import annotations

import math
import time
from types import TracebackType

import torch

from einthoven.command_line import train_command
from einthoven.machine import usable_cores, waited_seconds
from einthoven.terminal.display import say
from einthoven.tracking.recorder import Recorder
from einthoven.training.short_waits import ShortWaits

INTERVAL = 5.0
"""Seconds between two looks at the counters of the system."""

LOST_CORES = 0.25
"""So many lost cores are reported. On an idle machine, a training loses a few hundredths of a core."""

FREE_AGAIN = 0.1
"""With fewer lost cores than this, the machine is idle again."""

TAG = "system.lost_cores"
"""Tag of a run that has lost cores to other processes: how many, on average over an interval."""


class CoreWatch:
    """Looks every few seconds whether a training loses cores to other processes. The run says so once.

    The threads of a training wait for each other many times in each step. If another process uses one core, each
    thread waits for the one that has lost its core, and the training is several times slower. So threads that wait
    sleep soon (`ShortWaits`) until the cores are free again. Leaving the context of this object ends that, too.

    Parameters
    ----------
    recorder : Recorder
        Gets the tag.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._cores = usable_cores()
        self._is_reported = False
        self._waits = ShortWaits()
        self._begin()

    def __enter__(self) -> CoreWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waits.end()

    def step(self) -> None:
        """Look at the counters if it is time. The training calls this after each step."""
        # A single thread waits for no other.
        if torch.get_num_threads() == 1:
            return
        seconds = time.monotonic() - self._start
        if seconds < INTERVAL:
            return
        used = time.process_time() - self._used
        lost = lost_cores(seconds, used, waited_seconds() - self._waited, self._cores)
        if lost >= LOST_CORES:
            self._waits.begin()
            self._report(lost)
        elif lost < FREE_AGAIN:
            self._waits.end()
        self._begin()

    def _begin(self) -> None:
        """Begin an interval."""
        self._start = time.monotonic()
        self._used = time.process_time()
        self._waited = waited_seconds()

    def _report(self, lost: float) -> None:
        """Say once how many cores are lost, and how the training is faster."""
        if self._is_reported:
            return
        self._is_reported = True
        threads = torch.get_num_threads()
        fewer = max(threads - math.ceil(lost), 1)
        faster = f"OMP_NUM_THREADS={fewer} {train_command()}"
        say(
            f"Other processes use {lost:.1f} of the {self._cores} cores of this training. In each step, its {threads} "
            f"threads wait for the slowest one. Fewer threads are faster: begin the command with {faster}"
        )
        self._recorder.tags({TAG: f"{lost:.2f}"})


def lost_cores(seconds: float, used: float, waited: float, cores: int) -> float:
    """Return how many cores other processes have taken from this one, on average over an interval.

    The threads had a core for `used` seconds, and had work and no core for `waited` seconds, both summed over the
    threads. A thread also waits if this process has more threads with work than cores. Then the process uses all cores,
    so that nothing is lost to others.
    """
    unused = cores - used / seconds
    return max(min(waited / seconds, unused), 0.0)
