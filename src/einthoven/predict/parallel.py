"""Groups of files in parallel threads, with the results in the order of the files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from einthoven.predict.forward import RECORDS_PER_BATCH

MOST_WORKERS = 4
"""More threads would wait for Python's global lock."""

Model = TypeVar("Model")
Result = TypeVar("Result")


def worker_count(files: int) -> int:
    """Return the number of threads for a number of files."""
    groups = -(-files // RECORDS_PER_BATCH)
    return max(min(torch.get_num_threads(), groups, MOST_WORKERS), 1)


def map_groups(
    files: Sequence[Path],
    models: Sequence[Model],
    answer: Callable[[Model, Sequence[Path]], list[Result]],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Call a function on groups of files, and yield its results, one for each file, in order.

    Parameters
    ----------
    files : sequence of Path
    models : sequence
        One model for each thread. A model serves one thread at a time.
    answer : callable
        (model, files of a group) -> one result for each of these files.
    progress : callable, optional
        Called with the number of files that are done, and the number of all files.
    """
    groups = [files[first : first + RECORDS_PER_BATCH] for first in range(0, len(files), RECORDS_PER_BATCH)]
    threads = torch.get_num_threads()
    workers = len(models)
    idle_models = SimpleQueue[Model]()
    for model in models:
        idle_models.put(model)

    def answer_group(group: Sequence[Path]) -> list[Result]:
        own_model = idle_models.get()
        try:
            return answer(own_model, group)
        finally:
            idle_models.put(own_model)

    threads_per_worker = max(threads // workers, 1)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads_per_worker,))
    try:
        # NumPy's own threads use a core while they wait.
        with pool, threadpool_limits(threads_per_worker, "blas"):
            waiting = iter(groups)
            running = deque[Future[list[Result]]]()
            done = 0
            while True:
                # One group more than there are workers is submitted, so that no worker waits for this loop.
                free_places = 1 + workers - len(running)
                running.extend(pool.submit(answer_group, group) for group in islice(waiting, free_places))
                if not running:
                    break
                results = running.popleft().result()
                yield from results
                done += len(results)
                if progress is not None:
                    progress(done, len(files))
    finally:
        torch.set_num_threads(threads)
