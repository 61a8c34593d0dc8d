"""Workers that are lost are replaced; uploads that are slow are given up; names are made safe."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.app import workers
from einthoven.app.server import application
from einthoven.app.upload import _safe_name
from einthoven.app.workers import Limits, Worker
from einthoven.errors import UserError


def job(folder: Path, number: int) -> dict[str, Any]:
    place = folder / str(number)
    place.mkdir()
    return {"folder": str(place), "reading": {}, "start_s": 0.0, "explain": None, "example": number}


def test_a_worker_that_hangs_or_dies_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker([], Limits(seconds=60.0, workers=1))
    try:
        assert worker.ask(job(tmp_path, 0))[0] == 200
        process = worker._process.pid
        os.kill(process, signal.SIGSTOP)  # hangs
        worker._limits = Limits(seconds=0.2)
        status, content = worker.ask(job(tmp_path, 1))
        assert status == 422 and "not answered within 0.2 s" in json.loads(content)["error"]
        worker._limits = Limits(seconds=60.0)
        assert worker._process.pid != process and worker.ask(job(tmp_path, 2))[0] == 200
        threading.Timer(
            0.02, os.kill, (worker._process.pid, signal.SIGKILL)
        ).start()  # as the system does without memory
        status, content = worker.ask(job(tmp_path, 3))
        assert status == 422 and "more than 2 GiB of memory" in json.loads(content)["error"]
        assert worker.ask(job(tmp_path, 4))[0] == 200
        with monkeypatch.context() as hasty:  # the next process has nothing to say in time: it says nothing later
            hasty.setattr(workers, "START_SECONDS", 0.0)
            os.kill(worker._process.pid, signal.SIGKILL)
            assert worker.ask(job(tmp_path, 5))[0] == 422
        assert [worker.ask(job(tmp_path, number))[0] for number in (6, 7)] == [422, 200]
    finally:
        worker.close()
    assert not worker._process.is_alive()


def test_a_bundle_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run nor a bundle"):
        Worker([tmp_path], Limits())


def test_a_fault_of_the_program_is_shown_in_the_terminal_and_not_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file_name = "patient.csv"

    class Broken:
        def read(self, file: Path, **reading: object) -> None:
            raise ZeroDivisionError(file_name)

    reply = workers._answer_job(Broken(), None, job(tmp_path, 0))
    terminal = capsys.readouterr().err
    assert reply.startswith(b"500")
    assert json.loads(reply[3:])["error"] == "not answered: a fault of this program (ZeroDivisionError)."
    assert "answer.py" in terminal and "in read" in terminal and "ZeroDivisionError" in terminal
    assert file_name not in terminal and file_name not in reply.decode()


def test_an_upload_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    class Idle:
        limits, about = Limits(seconds=0.05), {}

    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"1,2,3\n", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/answer", "query_string": b"file=a.csv", "server": ("", 1)}
    headers = [(b"host", b"127.0.0.1:1")]
    asyncio.run(application(Idle(), tmp_path)({**scope, "headers": headers}, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408 and b"not sent within 0.05 s" in sent[1]["body"]
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=260))
def test_a_safe_name_is_one_plain_component(name: str) -> None:
    try:
        safe = _safe_name(name)
    except UserError:
        return
    assert safe == Path(safe).name and safe.isprintable() and safe[0] not in ". " and len(os.fsencode(safe)) <= 255
    assert _safe_name(safe) == safe
