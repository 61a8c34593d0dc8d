from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from einthoven.machine import waited_seconds
from einthoven.runs.network import core_watch
from einthoven.runs.network.core_watch import TAG, CoreWatch, lost_cores
from einthoven.training.short_waits import VARIABLES

WAIT_FOR_A_CORE = """
import os, time
from einthoven.machine import waited_seconds
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
child = os.fork()
if child == 0:
    while True:
        pass
start = time.monotonic()
used = time.process_time()
waited = waited_seconds()
while time.monotonic() - start < 0.6:
    pass
print(time.monotonic() - start, time.process_time() - used, waited_seconds() - waited)
os.kill(child, 9)
"""


class Recorder:
    """Keeps the tags."""

    def __init__(self) -> None:
        self.logged: dict[str, str] = {}

    def tags(self, values: dict[str, str]) -> None:
        self.logged |= values


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="this system does not count how long threads wait"
)
def test_a_process_beside_this_one_on_its_core_is_waited_for() -> None:
    shown = subprocess.run([sys.executable, "-c", WAIT_FOR_A_CORE], capture_output=True, text=True, check=True).stdout
    seconds, used, waited = map(float, shown.split())
    # The process always wants its core: what it does not get is what it waits for.
    assert waited == pytest.approx(seconds - used, abs=0.1)
    assert lost_cores(seconds, used, waited, cores=1) > 0.25


def test_a_thread_that_waits_for_a_thread_of_its_own_process_has_lost_nothing() -> None:
    # Ten seconds on two cores.
    assert lost_cores(10.0, used=20.0, waited=10.0, cores=2) == 0.0
    # Two threads share two cores with another process.
    assert lost_cores(10.0, used=13.0, waited=7.0, cores=2) == pytest.approx(0.7)
    # A training that reads from a disk uses few cores, but it waits for none.
    assert lost_cores(10.0, used=4.0, waited=0.1, cores=2) == pytest.approx(0.01)


def test_threads_that_have_ended_or_cannot_be_read_count_nothing(tmp_path: Path) -> None:
    for name, content in {"1": "5000000000 1500000000 7", "2": "1 250000000 1", "3": "", "4": "0 0"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "schedstat").write_text(content)
    (tmp_path / "5").mkdir()
    assert waited_seconds(tmp_path) == 1.75
    assert waited_seconds(tmp_path / "missing") == 0.0


@pytest.mark.parametrize(("waiting", "threads", "fewer"), [(0.0, 2, None), (0.7, 2, 1), (0.7, 1, None), (2.4, 8, 5)])
def test_a_run_that_loses_cores_says_so_once(
    waiting: float,
    threads: int,
    fewer: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # A training that runs for a minute, with a look each second.
    now = [0.0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(core_watch, "usable_cores", lambda: threads)
    monkeypatch.setattr(core_watch, "waited_seconds", lambda: waiting * now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "process_time", lambda: (threads - waiting) * now[0])
    recorder = Recorder()
    with CoreWatch(recorder) as watch:  # type: ignore[arg-type]
        for second in range(60):
            now[0] = float(second)
            watch.step()
    shown = " ".join(capsys.readouterr().out.split())
    if fewer is None:
        assert shown == ""
        assert recorder.logged == {}
    else:
        assert shown.count(f"OMP_NUM_THREADS={fewer} ") == 1
        assert shown.count("Other processes") == 1
        assert recorder.logged == {TAG: f"{waiting:.2f}"}


def test_threads_sleep_soon_until_the_cores_are_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    now, waited = [0.0], [0.0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(core_watch, "usable_cores", lambda: 2)
    monkeypatch.setattr(core_watch, "waited_seconds", lambda: waited[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "process_time", lambda: 2 * now[0] - waited[0])

    def shortened() -> bool:
        return any(thread.name == "short waits" for thread in threading.enumerate())

    with CoreWatch(Recorder()) as watch:  # type: ignore[arg-type]
        # Cores that another process takes in each interval of five seconds, and whether threads sleep soon after it.
        for lost, is_short in [(0.0, False), (0.7, True), (0.2, True), (0.05, False), (0.3, True)]:
            now[0] += 5.0
            waited[0] += 5.0 * lost
            watch.step()
            assert shortened() == is_short
    assert not shortened()
