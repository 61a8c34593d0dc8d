"""How the processes of a training find each other, and wait for each other before it begins."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from einthoven.errors import UserError
from einthoven.training.collectives import LostProcessError, lost_process
from einthoven.training.launch import Launch

ANSWER_SECONDS = 50.0
"""A process that does not answer for this time is lost. One that was killed is noticed at once."""

_POLL_SECONDS = 0.1

_LIFE_SECONDS = 5.0
"""Time between two signs of life."""

_FOLDER = "folder"
_FAILED = "failed"


class Meeting:
    """The notes that the processes leave for each other before the training begins.

    The first process prepares the run, and then tells the others its folder. This can take hours, for example if a
    store of records is built. So a process that waits looks for a note again and again, and gives up only if a process
    has failed, or has not shown for some time that it is alive.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self._store = store
        self._rank = rank
        self._size = size
        self._is_over = threading.Event()
        # A thread, because the process is busy with its records.
        self._life = threading.Thread(target=self._show_life, daemon=True)
        self._life.start()

    def tell_folder(self, folder: Path) -> None:
        """Tell the other processes the folder of the run."""
        with lost_process():
            self._store.set(_FOLDER, str(folder.absolute()))

    def end(self) -> None:
        """Tell the other processes that there is nothing to train, if they still wait for a folder."""
        self._end_life()
        if self._rank == 0:
            # The others may have ended long ago, and torchrun with them.
            with suppress(LostProcessError), lost_process():
                self._store.compare_set(_FOLDER, "", "")

    def wait_for_folder(self) -> Path | None:
        """Return the folder of the run, as soon as the first process has prepared it; None if there is none."""
        self._wait([_FOLDER])
        name = self._store.get(_FOLDER).decode()
        return Path(name) if name else None

    def meet(self) -> None:
        """Wait until all processes are here."""
        with lost_process():
            self._store.set(f"ready/{self._rank}", "")
        self._wait([f"ready/{rank}" for rank in range(self._size)])
        self._is_over.set()

    def leave(self) -> None:
        """Tell the other processes that this one has failed, if they are still there."""
        self._end_life()
        with suppress(LostProcessError), lost_process():
            self._store.set(_FAILED, "")

    def _wait(self, names: list[str]) -> None:
        """Wait for some notes.

        Raises
        ------
        LostProcessError
            If a process has failed or has ended.
        """
        signs: list[int] = []
        last_change = time.monotonic()
        with lost_process():
            while not self._store.check(names):
                if self._store.check([_FAILED]):
                    raise LostProcessError
                # An addition of 0 reads the number.
                now = [self._store.add(f"alive/{rank}", 0) for rank in range(self._size)]
                if any(before == after for before, after in zip(signs, now, strict=False)):
                    if time.monotonic() - last_change > ANSWER_SECONDS:
                        raise LostProcessError
                else:
                    signs = now
                    last_change = time.monotonic()
                time.sleep(_POLL_SECONDS)

    def _end_life(self) -> None:
        """End the thread that shows life. A process that ends while a thread is inside of the store is aborted."""
        self._is_over.set()
        self._life.join(_LIFE_SECONDS)

    def _show_life(self) -> None:
        """Show the other processes that this one is alive, until the training begins."""
        with suppress(LostProcessError), lost_process():
            while not self._is_over.wait(_LIFE_SECONDS):
                self._store.add(f"alive/{self._rank}", 1)


@contextmanager
def connected(launch: Launch, *, uses_gpus: bool) -> Iterator[Meeting]:
    """Connect this process with the others until the block ends.

    Parameters
    ----------
    launch : Launch
    uses_gpus : bool
        Whether each process uses a GPU of its own, if the machine has some.

    Raises
    ------
    LostProcessError
        If they do not find each other.
    UserError
        If this process has no GPU, and others have one.
    """
    backend = "gloo"
    if uses_gpus and torch.cuda.is_available():
        # Tensors on GPUs and tensors on CPUs travel in different ways.
        backend = "cpu:gloo,cuda:nccl"
        if launch.local_rank >= torch.cuda.device_count():
            raise UserError(
                f"torchrun has started process {launch.local_rank + 1} or more on this machine, which has "
                f"{torch.cuda.device_count()} GPUs; expected --nproc-per-node {torch.cuda.device_count()} or less."
            )
        # The device `cuda` now means the GPU of this process.
        torch.cuda.set_device(launch.local_rank)
    timeout = timedelta(seconds=ANSWER_SECONDS)
    with lost_process():
        server = TCPStore(launch.address, launch.port, None, launch.hosts_store, timeout)
        # The store of torchrun may still contain what the processes before a restart have written.
        store = PrefixStore(f"einthoven/{launch.restarts}", server)
        dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.size, timeout=timeout)
    meeting = Meeting(PrefixStore("meeting", store), launch.rank, launch.size)
    try:
        yield meeting
    except BaseException:
        meeting.leave()
        raise
    meeting.end()
    dist.destroy_process_group()
