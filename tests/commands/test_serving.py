"""`mlflow models serve` on the model of a run, with the command and the program of docs/serving.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import mlflow
import numpy as np
import pytest

from einthoven.data import read_record
from einthoven.evaluation.calibration import Uncalibrated
from einthoven.predict import Predictor, load_bundle
from einthoven.tracking.server import client

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
PATIENCE = 120.0  # s


def block(language: str, start: str) -> str:
    """The code block of the page that begins like this."""
    (found,) = [
        body for body in re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S) if body.startswith(start)
    ]
    return str(found)


@pytest.fixture
def store(train: Callable[..., None], workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tracking store of a run, its ID, and the folder of the run."""
    train("model=logistic", "trainer.epochs=1", "hydra.run.dir=served")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/mlflow.db")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{workplace}/mlflow.db")
    tracker = client(f"sqlite:///{workplace}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in tracker.search_experiments()]
    (run,) = tracker.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)
    yield run.info.run_id
    mlflow.set_tracking_uri(before)


def test_the_model_of_a_run_takes_millivolts_and_gives_probabilities(
    store: str, workplace: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((corpus / "records100" / "00000").glob("*.hea"))[:3]
    # The model in MLflow is the network alone, without the calibration of the bundle.
    (bundle,) = load_bundle(workplace / "served").bundles
    uncalibrated = replace(
        bundle, calibration=Uncalibrated(bundle.classes, bundle.single_label), calibration_method="none"
    )
    expected = Predictor([uncalibrated]).predict(files).probabilities
    signals = np.stack([read_record(file).signal for file in files])
    loaded = mlflow.pyfunc.load_model(f"runs:/{store}/model")
    assert loaded.predict(signals) == pytest.approx(expected, abs=1e-5)
    assert loaded.metadata.metadata["units"] == "mV" and loaded.metadata.metadata["fs"] == 100.0

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = shlex.split(block("sh", "mlflow models serve").replace("RUN_ID", store).replace("5001", str(port)))
    log = (tmp_path / "log").open("w")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # as in an activated environment
    server = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        end = time.monotonic() + PATIENCE
        while not _answers(port):
            assert time.monotonic() < end and server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        for suffix in (".hea", ".dat"):
            (tmp_path / f"{files[0].stem}{suffix}").write_bytes(files[0].with_suffix(suffix).read_bytes())
        monkeypatch.chdir(tmp_path)
        program = block("python", "import json").replace("5001", str(port)).replace("ecg.hea", files[0].name)
        names: dict[str, Any] = {}
        exec(program, names)
        assert np.array(names["probabilities"]) == pytest.approx(expected[:1], abs=1e-5)
        signals[0, 3, 7] = np.nan
        names["request"].data = json.dumps({"inputs": signals[:1].tolist()}).encode()
        with pytest.raises(HTTPError, match="400") as refusal:
            urlopen(names["request"])
        assert "record 0, lead 3, sample 7 is nan" in json.load(refusal.value)["message"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(100)
    except OSError:
        return False
