"""The cores and the memory that this process may use. A container, Slurm or `taskset` allows only a part of them.

A control group of Linux limits its processes, and its parent groups limit them, too. There are two versions of control
groups, and a machine can use both. Version 1 has a folder for each kind of limit.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_OWN_THREADS = Path("/proc/self/task")
_MEBIBYTE = 2**20

# Options of `mallopt` of the C library of GNU
_TRIM_THRESHOLD = -1
_MAP_THRESHOLD = -3
_KEPT = 2**30
# The largest threshold that versions of the library before 2.35 accept
_MOST_MAPPED = 2**25


def usable_cores(groups: Path = _GROUPS, own_groups: Path = _OWN_GROUPS) -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the smallest of: the cores of its affinity, the CPU time that its control groups allow, and
    ``SLURM_CPUS_PER_TASK``. The control groups have a folder, and a file names those of this process.
    """
    limits = [float(os.cpu_count() or 1)]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdigit():
        limits.append(int(slurm))
    for folder in _folders(groups, own_groups, "cpu"):
        # Version 2 has both numbers in one file.
        words = _text(folder / "cpu.max").split() or [
            _text(folder / "cpu.cfs_quota_us"),
            _text(folder / "cpu.cfs_period_us"),
        ]
        quota, period = (_number(word) for word in words)
        # Without a limit, the quota is "max" or -1.
        if quota is not None and period:
            limits.append(math.ceil(quota / period))
    return max(int(min(limits)), 1)


def free_memory(groups: Path = _GROUPS, own_groups: Path = _OWN_GROUPS) -> int:
    """Return the number of bytes that this process may still use. The parameters are those of `usable_cores`.

    It is the smallest of: the free memory of the machine, what the limits of its control groups leave, and what the
    limit of Slurm leaves. If torchrun has started several processes on this machine, each may use an equal part.
    """
    limits = [_free_memory_of_machine()]
    for folder in _folders(groups, own_groups, "memory"):
        limit = _number(_text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes"))
        used = _number(_text(folder / "memory.current") or _text(folder / "memory.usage_in_bytes"))
        if limit is not None and used is not None:
            limits.append(limit - used + _reclaimable(folder))
    slurm = _slurm_memory()
    if slurm is not None:
        limits.append(slurm - _own_memory())
    processes = _number(os.environ.get("LOCAL_WORLD_SIZE", "")) or 1
    return max(min(limits), 0) // processes


def limit_threads() -> None:
    """Let torch use no more threads than this process may use cores. torch itself knows the affinity only."""
    import torch

    cores = usable_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


def waited_seconds(threads: Path = _OWN_THREADS) -> float:
    """Return how long the threads of this process had work and no core, in seconds, summed over the threads.

    Linux counts it for each thread, in a folder of its own. On other systems the result is always 0.
    """
    nanoseconds = 0
    for file in threads.glob("*/schedstat"):
        # The numbers are: time on a core, time of waiting for one, and how often the thread got one.
        words = _text(file).split()
        if len(words) == 3:
            nanoseconds += int(words[1])
    return nanoseconds / 1e9


def keep_freed_memory() -> None:
    """Let the C library keep the memory that a training step frees, for the next step.

    By default, it returns large tensors to the system. Each step then gets them as new pages, which the system fills
    with zeros first. Memory grows by what the largest step does not use at its end. This has an effect with the C
    library of GNU only. The user decides with the variables ``MALLOC_TRIM_THRESHOLD_`` and ``MALLOC_MMAP_THRESHOLD_``.
    """
    is_set = any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"))
    if is_set or not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_TRIM_THRESHOLD, _KEPT)
        # A threshold that is refused would leave the smallest one, because the library adapts it no longer.
        if not library.mallopt(_MAP_THRESHOLD, _KEPT):
            library.mallopt(_MAP_THRESHOLD, _MOST_MAPPED)


def _folders(groups: Path, own_groups: Path, kind: str) -> Iterator[Path]:
    """Yield the folders with the limits of one kind: of the own group, and of each group that contains it.

    In a container, the folder of the own group can be at the top, whatever its name is. The top is always yielded.
    """
    for line in _text(own_groups).splitlines():
        # A line is NUMBER:KINDS:NAME. Version 2 has no kinds.
        _, kinds, name = (*line.split(":", 2), "", "")[:3]
        if kinds and kind not in kinds.split(","):
            continue
        top = groups / kind if kinds else groups
        group = top / name.lstrip("/")
        for folder in (group, *group.parents):
            yield folder
            if folder == top:
                break


def _text(file: Path) -> str:
    """Return the content of a file of the system; an empty text if it cannot be read."""
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""


def _number(text: str) -> int | None:
    """Return a number of 0 or more; None for another text."""
    return int(text) if text.isdigit() else None


def _reclaimable(folder: Path) -> int:
    """Return the bytes of files in the memory of a group that the system gives back when they are needed."""
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        # In version 1, the plain name counts the group without the groups inside of it.
        if name == "total_inactive_file" or (name == "inactive_file" and (folder / "memory.max").exists()):
            return _number(value) or 0
    return 0


def _free_memory_of_machine() -> int:
    for line in _text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _slurm_memory() -> int | None:
    """Return the bytes that Slurm allows on this node; None without such a limit."""
    per_node = _number(os.environ.get("SLURM_MEM_PER_NODE", ""))
    if per_node:
        return per_node * _MEBIBYTE
    per_core = _number(os.environ.get("SLURM_MEM_PER_CPU", ""))
    cores = _number(os.environ.get("SLURM_CPUS_ON_NODE", ""))
    return per_core * cores * _MEBIBYTE if per_core and cores else None


def _own_memory() -> int:
    """Return the bytes that this process has in memory."""
    for line in _text(Path("/proc/self/status")).splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def import_large(name: str) -> None:
    """Import a module with many others, without a search for garbage meanwhile and later among what it made.

    An import makes many objects and no garbage. Searching them takes a tenth of the imports of a run.
    """
    if name in sys.modules:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        import_module(name)
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
