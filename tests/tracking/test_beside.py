from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from einthoven.tracking import beside as module
from einthoven.tracking.beside import beside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a copy of the process is made on Linux only")

KILLED = """
import sys, time
from pathlib import Path
from einthoven.tracking import beside

beside.usable_cores = lambda: 2

def work():
    import os
    Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(60)

with beside.beside(work):
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 2)


def test_the_work_is_done_by_a_copy_while_the_block_runs(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    def work() -> None:
        first.write_text(str(os.getpid()))
        while not second.exists():
            time.sleep(0.01)

    with beside(work):
        # Each waits for the other.
        while not first.exists():
            time.sleep(0.01)
        second.write_text("")
    assert int(first.read_text()) != os.getpid()
    assert has_been_waited_for(int(first.read_text()))


def test_what_the_copy_cannot_do_is_done_here(tmp_path: Path) -> None:
    this = os.getpid()

    def work() -> None:
        if os.getpid() != this:
            raise RuntimeError
        (tmp_path / "file").write_text("")

    with beside(work):
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").exists()

    def fail() -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"), beside(fail):
        pass


def test_a_copy_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.2)
    this = os.getpid()
    file = tmp_path / "process"

    def work() -> None:
        if os.getpid() != this:
            file.write_text(str(os.getpid()))
            time.sleep(60)
        (tmp_path / "work").write_text("")

    with beside(work):
        while not file.exists() or not file.read_text():
            time.sleep(0.01)
    assert (tmp_path / "work").exists()
    assert has_been_waited_for(int(file.read_text()))


def test_with_one_core_nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    processes = []
    with beside(lambda: processes.append(os.getpid())):
        pass
    assert processes == [os.getpid()]


def test_the_copy_ends_if_the_block_fails(tmp_path: Path) -> None:
    file = tmp_path / "process"

    def work() -> None:
        file.write_text(str(os.getpid()))
        time.sleep(60)

    def block() -> None:
        with beside(work):
            while not file.exists() or not file.read_text():
                time.sleep(0.01)
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        block()
    assert time.monotonic() - start < 30
    assert has_been_waited_for(int(file.read_text()))


def test_the_copy_of_a_killed_process_ends(tmp_path: Path) -> None:
    file = tmp_path / "process"
    parent = subprocess.Popen([sys.executable, "-c", KILLED, str(file)])
    while not file.exists() or not file.read_text():
        time.sleep(0.05)
    process = int(file.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while is_running(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(process)


def has_been_waited_for(process: int) -> bool:
    """Return whether a process is no child of this one any more."""
    try:
        os.waitpid(process, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def is_running(process: int) -> bool:
    """Return whether a process runs. One that has ended can wait for its new parent, without a command line."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text() != ""
    except OSError:
        return False
