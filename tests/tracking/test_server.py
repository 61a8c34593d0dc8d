"""A real `mlflow server`, killed while a run writes to it and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest
import torch

from einthoven import cli
from einthoven.errors import UserError
from einthoven.tracking.delivery import Delivery
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import connect, reach


class Server:
    """An `mlflow server` on a sqlite file, in a process group that can be killed."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        store = f"sqlite:///{self.folder}/mlflow.db"
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(self.port)]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1"]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        for _ in range(1200):
            try:
                urlopen(f"{self.uri}/health", timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, mlflow_db: Path) -> Iterator[Server]:
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def open_run(server: Server, name: str, **options: object) -> Recorder:
    folder = server.folder / name
    return Recorder(server.uri, "experiment", name, folder=folder, tags={}, **options)  # type: ignore[arg-type]


def wait_until(happens: Callable[[], bool]) -> None:
    for _ in range(600):
        if happens():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def test_a_server_killed_in_the_middle_of_a_run_has_everything_once(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = open_run(server, "whole", interval=10), open_run(server, "cut", interval=10, patience=0.0)

    def train(*steps: int) -> None:
        for step in range(*steps):
            for recorder in (whole, cut):
                recorder.log_metrics(step, {"train/loss": torch.tensor(1.0 / step), "watch/optim/lr": 0.1 * step})

    train(1, 101)
    wait_until(lambda: not whole._entries.waiting)
    server.kill()
    train(101, 201)
    whole.params({"model.name": "x"})
    whole.note("# why")
    whole.text("while nobody was there", "late.txt")
    wait_until(lambda: whole._entries.error is not None and whole._files.error is not None)
    cut.finish()  # without a server
    (told,) = cut.unsent
    assert f"einthoven sync --trust {server.uri} {server.folder / 'cut'}" in told
    assert "does not have all of this run" in told

    server.start()
    train(201, 203)
    whole.finish()
    assert whole.unsent == []
    with pytest.raises(SystemExit) as nothing_there:
        cli.main(["sync", str(server.folder / "elsewhere")])
    assert nothing_there.value.code == 2
    cli.main(["sync", "--trust", server.uri, str(server.folder / "cut")])
    assert f"run {cut.run_id} in {server.uri}" in capsys.readouterr().out

    client = connect(server.uri)
    for recorder, last in ((whole, 202), (cut, 200)):
        run = client.get_run(recorder.run_id)
        assert run.info.status == "FINISHED" and client.search_runs([run.info.experiment_id])
        table = pq.read_table(client.download_artifacts(recorder.run_id, "series/metrics.parquet")).to_pylist()
        for name in ("train/loss", "watch/optim/lr"):
            found = [(m.step, m.timestamp, m.value) for m in client.get_metric_history(recorder.run_id, name)]
            kept = [r for r in table if r["metric"] == name]
            expected = [(r["step"], round(r["timestamp"].timestamp() * 1000), r["value"]) for r in kept]
            assert sorted(found) == expected and [step for step, _, _ in expected] == list(range(1, last + 1))
    run = client.get_run(whole.run_id)
    assert (run.data.params["model.name"], run.data.tags["mlflow.note.content"]) == ("x", "# why")
    late = Path(client.download_artifacts(whole.run_id, "late.txt"))
    assert late.read_text() == "while nobody was there"


def test_an_address_where_nobody_answers_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "text.db").write_text("this is no database")
    for uri, reason in (
        (f"http://127.0.0.1:{port}", "Connection refused"),
        (f"postgresql://me:secret@127.0.0.1:{port}/runs", "no answer"),
        (f"sqlite:///{tmp_path}/text.db", "no sqlite database"),
        (f"sqlite:///{tmp_path}", "that is a folder"),
    ):
        with pytest.raises(UserError, match=r"tracking\.uri=") as refused:
            reach(uri)
        assert reason in str(refused.value) and "secret" not in str(refused.value)


def test_what_is_sent_twice_arrives_once(tmp_path: Path, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the one store that does not drop duplicates itself
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    entries = [
        {"metrics": [["a", 1.0, 5, 1], ["a", float("nan"), 6, 2], ["a", float("inf"), 7, 3], ["b", 0.1, 7, 3]]},
        {"params": {f"p{k}": str(k) for k in range(150)}},
        {"tags": {"t": "1"}},
        {"dataset": {"name": "d", "digest": "0", "source": "s", "profile": {}, "context": "train"}},
        {"file": {"path": "../a.txt", "place": "tables", "table": True, "staged": False}},
        {"file": {"path": "../b.txt", "place": "tables", "table": True, "staged": False}},
    ]
    for store in (f"sqlite:///{tmp_path}/mlflow.db", f"file://{tmp_path}/mlruns"):
        folder = tmp_path / store[:4]
        folder.mkdir()
        delivery = Delivery(folder, store)
        place = str(tmp_path / "files")
        wanted = {"experiment": "e", "artifact_location": place, "time": 1, "tags": {}, "name": "n"}
        for doubtful in (False, True):
            delivery.create(wanted)
            delivery(entries, doubtful)
        client = delivery.client
        assert len(client.get_metric_history(delivery.run_id, "a")) == 3
        (run,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
        assert len(run.data.params) == 150 and len(run.inputs.dataset_inputs) == 1
        tables = [entry["path"] for entry in json.loads(run.data.tags["mlflow.loggedArtifacts"])]
        assert tables == ["tables/a.txt", "tables/b.txt"]
