from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from einthoven.commands import ui
from einthoven.errors import UserError
from einthoven.runs.config.next_commands import ui_command
from einthoven.tracking.runs_list import TAG
from einthoven.tracking.server import VARIABLE
from einthoven.tracking.sweep import OVERRIDES


class Server:
    """Stands for the process of MLflow's server: it answers after a while, and ends when it has answered."""

    words: list[str]
    environment: dict[str, str]

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        type(self).words = words
        type(self).environment = environment
        self.returncode = -2
        port = int(words[words.index("--port") + 1])
        self._thread = threading.Thread(target=self._serve, args=(port,))
        self._thread.start()

    def _serve(self, port: int) -> None:
        time.sleep(0.3)
        with HTTPServer(("127.0.0.1", port), Health) as server:
            server.handle_request()

    def poll(self) -> int | None:
        return None

    def wait(self) -> None:
        self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert self.path == "/health"
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def uri(tmp_path: Path, mlflow_db: Path) -> str:
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser opens."""
    addresses: list[str] = []
    monkeypatch.setattr(webbrowser, "open", addresses.append)
    monkeypatch.setattr(ui, "program_group", Server)
    monkeypatch.setenv("DISPLAY", ":0")
    return addresses


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


def test_the_list_of_runs_opens_when_the_server_answers(
    port: int, uri: str, opened: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(uri)
    experiment = client.create_experiment("e")
    run = client.create_run(experiment, tags={OVERRIDES: ""}).info.run_id
    # Another program has a newer run in this store.
    foreign = client.create_experiment("of another program")
    client.create_run(foreign)
    on_a_terminal(monkeypatch)
    ui.main([f"uri={uri}", f"port={port}"])
    page = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey=einthoven"
    assert opened == [page]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith(page) and f"/runs/{run}?" in lines[3]
    assert TAG in client.get_experiment(experiment).tags
    assert TAG not in client.get_experiment(foreign).tags
    # The server prints no line for each request.
    assert "--log-level warning" in Server.words


def test_ctrl_c_ends_the_page_without_an_error(
    port: int, uri: str, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Server.wait

    def interrupted(server: Server) -> None:
        waits(server)
        monkeypatch.setattr(Server, "wait", waits)
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "wait", interrupted)
    ui.main([f"uri={uri}", f"port={port}"])
    assert Server.environment["MLFLOW_BACKEND_STORE_URI"] == uri


def test_the_page_shows_the_store_of_the_variable(
    port: int, uri: str, opened: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, uri)
    ui.main([f"port={port}"])
    # All users of the machine see the words of a command, and an address can contain a password.
    assert uri not in Server.words and Server.environment["MLFLOW_BACKEND_STORE_URI"] == uri
    assert f"tracking store: {uri}" in capsys.readouterr().out
    assert "uri=" not in ui_command(uri) and "uri=sqlite:///mlflow.db" in ui_command("sqlite:///mlflow.db")


@pytest.mark.parametrize("option", ["browser=false", ""])
def test_no_browser_opens_without_a_terminal_or_with_the_option(
    option: str, port: int, uri: str, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if option:
        on_a_terminal(monkeypatch)
    ui.main([f"uri={uri}", f"port={port}", *filter(None, [option])])
    assert opened == []


@pytest.mark.parametrize("word", ["port=0", "port=70000", "port=a", "browser=yes", "prt=1"])
def test_a_wrong_option_is_refused(word: str, uri: str) -> None:
    with pytest.raises(UserError, match=word.partition("=")[0]):
        ui.main([f"uri={uri}", word])


def test_a_port_with_another_server_is_refused(uri: str, port: int, opened: Callable[..., None]) -> None:
    with HTTPServer(("127.0.0.1", port), Health) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(UserError, match="another server answers there"):
            ui.main([f"uri={uri}", f"port={port}"])
        thread.join()
