"""Threads that wait for each other: how long they look for work before they sleep."""

from __future__ import annotations

import os
from threading import Event, Thread

import torch

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""With these variables of OpenMP, the user decides how threads wait."""

_PARALLEL = 2**20
"""torch computes a tensor of so many elements with all of its threads."""


class ShortWaits:
    """Lets waiting threads sleep soon, from `begin` to `end`. No result changes.

    The threads of torch wait for each other many times in a training step. On Linux, they are those of the OpenMP
    library of GCC. A waiting thread looks for work 300,000 times before it sleeps, and 1,000 times if the process has
    more threads than cores (manual of libgomp, `GOMP_SPINCOUNT`). The first is fast on an idle machine, and the second
    where another process needs a core. So this class adds a second team of threads, which sleep. With both teams, the
    process has more threads than cores if torch uses more than half of the cores. The number of threads that share a
    step, and with it the order of its sums, stays the same.
    """

    def __init__(self) -> None:
        self._ended = Event()
        self._team: Thread | None = None

    def begin(self) -> None:
        """Shorten the waits, if they are not short yet and the user has not chosen how threads wait."""
        if self._team is not None or any(name in os.environ for name in VARIABLES):
            return
        self._ended.clear()
        has_begun = Event()
        self._team = Thread(target=self._sleep, args=(has_begun,), name="short waits", daemon=True)
        self._team.start()
        has_begun.wait()

    def end(self) -> None:
        """Let threads wait as before."""
        if self._team is not None:
            self._ended.set()
            self._team.join()
            self._team = None

    def _sleep(self, has_begun: Event) -> None:
        # A thread that computes in parallel gets a team of its own, which exists until the thread ends.
        torch.ones(_PARALLEL).sqrt_()
        has_begun.set()
        self._ended.wait()
