"""The cores and the memory that a process may use, from control groups that are written here."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from einthoven import machine
from einthoven.machine import free_memory, import_large, limit_threads, usable_cores

GIB = 2**30


@pytest.fixture(autouse=True)
def _no_slurm_and_many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(48)))


def system(place: Path, names: str, files: dict[str, object]) -> tuple[Path, Path]:
    """Control groups with some files, and the file that names the groups of this process."""
    for name, content in files.items():
        file = place / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")
    (place / "own").write_text(names)
    return place / "cgroup", place / "own"


V1 = "4:memory:/a/b\n2:cpu,cpuacct:/a/b\n1:name=systemd:/\n0::/\n"

CORES = [  # groups of the process, files, cores
    ("0::/\n", {}, 48),
    ("0::/\n", {"cpu.max": "250000 100000"}, 3),
    ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),
    ("0::/a/b\n", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "400000 100000"}, 1),
    (V1, {"cpu/a/b/cpu.cfs_quota_us": -1, "cpu/a/b/cpu.cfs_period_us": 100000}, 48),
    (V1, {"cpu/a/cpu.cfs_quota_us": 200000, "cpu/a/cpu.cfs_period_us": 100000}, 2),
    # A container that sees only its own group, at the top.
    ("2:cpu:/docker/1f\n", {"cpu/cpu.cfs_quota_us": 700000, "cpu/cpu.cfs_period_us": 100000}, 7),
]


@pytest.mark.parametrize(("names", "files", "expected"), CORES)
def test_the_cores_that_groups_allow(names: str, files: dict[str, object], expected: int, tmp_path: Path) -> None:
    assert usable_cores(*system(tmp_path, names, files)) == expected


MEMORY = [  # groups of the process, files, free bytes
    ("0::/\n", {"memory.max": 3 * GIB, "memory.current": GIB}, 2 * GIB),
    ("0::/a/b\n", {"a/memory.max": 3 * GIB, "a/memory.current": GIB, "a/b/memory.max": "max"}, 2 * GIB),
    ("0::/a\n", {"a/memory.max": GIB, "a/memory.current": 2 * GIB}, 0),
    # Files that were read are in the memory of the group, and make room for the process.
    ("0::/\n", {"memory.max": 2 * GIB, "memory.current": GIB, "memory.stat": f"inactive_file {GIB}"}, 2 * GIB),
    (V1, {"memory/a/memory.limit_in_bytes": 3 * GIB, "memory/a/memory.usage_in_bytes": 2 * GIB}, GIB),
]


@pytest.mark.parametrize(("names", "files", "expected"), MEMORY)
def test_the_memory_that_groups_leave(names: str, files: dict[str, object], expected: int, tmp_path: Path) -> None:
    assert free_memory(*system(tmp_path, names, files)) == expected


def test_processes_of_torchrun_share_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    names, files, expected = MEMORY[0]
    assert free_memory(*system(tmp_path, names, files)) == expected // 4


def test_slurm_limits_cores_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = system(tmp_path, "0::/\n", {})
    unlimited = free_memory(*place)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "4000")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert usable_cores(*place) == 6
    assert free_memory(*place) < min(unlimited, 4000 * 2**20)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds a process to cores.")
def test_a_process_that_is_bound_to_a_core_uses_one() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from einthoven.machine import *"
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; print(usable_cores())"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "1"


def test_torch_uses_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    threads = torch.get_num_threads()
    try:
        for before, after in ((3, 2), (1, 1)):
            torch.set_num_threads(before)
            limit_threads()
            assert torch.get_num_threads() == after
    finally:
        torch.set_num_threads(threads)


NEW_PAGES = """
import ctypes, resource
from einthoven.machine import keep_freed_memory
{call}
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
def take_and_free():
    block = ctypes.c_void_p(library.malloc(48 << 20))
    library.memset(block, 1, 48 << 20)
    library.free(block)
take_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    take_and_free()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have another C library")
def test_freed_memory_is_kept_for_the_next_step():
    def new_pages(call: str, **variables: str) -> int:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        script = NEW_PAGES.format(call=call)
        output = subprocess.run(
            [sys.executable, "-c", script], env=environment | variables, check=True, capture_output=True, text=True
        )
        return int(output.stdout)

    # Four blocks of 48 MiB have 49,152 pages of 4 KiB, or 96 of 2 MiB.
    assert new_pages("pass") >= 96
    assert new_pages("keep_freed_memory()") < 90
    # The user decides.
    assert new_pages("keep_freed_memory()", MALLOC_TRIM_THRESHOLD_="131072") >= 96


def test_an_older_c_library_gets_the_largest_threshold_that_it_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    class OlderLibrary:
        """`mallopt` refuses to map only blocks above 32 MiB, as in glibc 2.34 (man 3 mallopt)."""

        def __init__(self) -> None:
            self.options: dict[int, int] = {}

        def mallopt(self, option: int, value: int) -> int:
            if option == machine._MAP_THRESHOLD and value > 2**25:
                return 0
            self.options[option] = value
            return 1

    library = OlderLibrary()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: library)
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    machine.keep_freed_memory()
    assert library.options == {machine._TRIM_THRESHOLD: 2**30, machine._MAP_THRESHOLD: 2**25}


def test_an_import_leaves_the_garbage_collector_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large_part.py").write_text("import gc\nwas_enabled = gc.isenabled()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import_large("large_part")
    assert not sys.modules.pop("large_part").was_enabled
    assert gc.isenabled()

    (tmp_path / "broken_part.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        import_large("broken_part")
    assert gc.isenabled()
