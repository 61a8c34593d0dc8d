"""Signals wait for the end of a block, a second one does not, and SIGTERM ends a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import psutil
import pytest

from einthoven import cli
from einthoven.interrupts import Terminated, deferred, deliver_waiting, is_waiting, program_group, terminable


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_waits_for_the_end_of_the_outer_block(number: int, error: type[BaseException]) -> None:
    steps = []
    before = handlers()
    with pytest.raises(error), terminable(), deferred():
        with deferred():
            assert not is_waiting()
            send(number)
            steps.append("inner")
        assert is_waiting()
        steps.append("outer")
    assert steps == ["inner", "outer"]
    assert handlers() == before


def test_the_second_signal_does_not_wait() -> None:
    before = handlers()
    with pytest.raises(KeyboardInterrupt), deferred():
        send(signal.SIGINT)
        send(signal.SIGINT)
        pytest.fail("the second signal waited")
    assert handlers() == before


def test_a_block_can_end_early(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), deferred("one moment"):
        deliver_waiting()
        send(signal.SIGINT)
        deliver_waiting()
        pytest.fail("the block went on")
    assert capsys.readouterr().err == "einthoven: one moment\n"
    deliver_waiting()


def test_an_error_in_the_block_does_not_lose_the_signal() -> None:
    with pytest.raises(KeyboardInterrupt) as interrupted, deferred():
        send(signal.SIGINT)
        raise ValueError("disk")
    assert isinstance(interrupted.value.__context__, ValueError)


def test_a_signal_that_is_ignored_stays_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred("one moment"):
            signal.raise_signal(signal.SIGINT)
            assert not is_waiting()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert not capsys.readouterr().err


def test_other_threads_need_no_protection() -> None:
    results: list[bool] = []

    def work() -> None:
        with deferred(), terminable():
            results.append(is_waiting())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [False]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_in_a_callback_of_the_garbage_collector_is_not_lost(number: int, error: type[BaseException]) -> None:
    class Thing:
        pass

    thing = Thing()
    # Python ignores the exception that the handler raises here.
    reference = weakref.ref(thing, lambda _: send(number))
    with pytest.raises(error), terminable():
        del thing
        time.sleep(30)
        pytest.fail("the signal was lost")
    assert reference() is None


def test_without_a_command_sigterm_still_ends_the_process_at_the_end_of_the_block() -> None:
    code = (
        "import os, signal\nfrom einthoven.interrupts import deferred\n"
        "with deferred():\n    os.kill(os.getpid(), signal.SIGTERM)\n    print('written', flush=True)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.stdout, process.returncode) == ("written\n", -signal.SIGTERM)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_ends_with_the_code_of_the_signal(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("einthoven.commands.sync.main", lambda arguments: send(number))
    before = handlers()
    with pytest.raises(SystemExit) as ended:
        cli.main(["sync", "folder"])
    assert ended.value.code == code
    assert capsys.readouterr().err in ("einthoven: interrupted\n", "einthoven: terminated\n")
    assert handlers() == before


NESTED = """
import signal, subprocess, sys, time
{ignore}
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("number", "ignore"),
    [
        (signal.SIGINT, "signal.signal(signal.SIGTERM, signal.SIG_IGN)"),
        (signal.SIGTERM, ""),
        (signal.SIGHUP, ""),
    ],
)
def test_a_signal_ends_a_program_and_the_programs_that_it_has_started(
    number: int, ignore: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("einthoven.interrupts._GRACE_SECONDS", 0.2 if ignore else 10.0)
    before = [*handlers(), signal.getsignal(signal.SIGHUP)]
    processes: list[psutil.Process] = []
    command = [sys.executable, "-c", NESTED.format(ignore=ignore)]
    with pytest.raises(KeyboardInterrupt), terminable(), program_group(command, os.environ) as program:
        started = psutil.Process(program.pid)
        while len(processes) < 2:
            processes = [started, *started.children(recursive=True)]
            time.sleep(0.01)
        send(number)
        time.sleep(30)
    assert psutil.wait_procs(processes, 10)[1] == []
    assert [*handlers(), signal.getsignal(signal.SIGHUP)] == before


def test_a_program_that_ends_itself_ends_nothing_else() -> None:
    with program_group([sys.executable, "-c", "raise SystemExit(3)"], os.environ) as program:
        assert program.wait(20) == 3
