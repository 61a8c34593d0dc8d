"""A training and its tracking store: one that is not there, one that goes away, and a full disk."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

from einthoven import cli
from einthoven.runs import start
from einthoven.terminal.display import UNSENT
from einthoven.tracking.delivery import Delivery
from einthoven.tracking.series import SeriesFile
from einthoven.tracking.spool import Entry

FAST = ("model=logistic", "trainer.epochs=2", "trainer.batch_size=8", "tracking.artifacts=false")


def test_a_store_that_is_not_there_is_told_before_any_data_are_read(
    train: Callable[..., None], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SystemExit) as ended:
        train(*FAST, f"tracking.uri=http://127.0.0.1:{port}", "data.root=nowhere")
    told = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(told) == 1 and "no answer" in told[0]


def test_a_store_that_goes_away_ends_in_exit_code_3_and_a_command(
    train: Callable[..., None], workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(self: Delivery, entries: Sequence[Entry], doubtful: bool) -> None:
        raise ConnectionError("nobody answers")

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(Delivery, "__call__", nobody)
        train(*FAST, "tracking.patience=0", "tracking.experiment=away", "hydra.run.dir=away")
    assert ended.value.code == UNSENT
    told = capsys.readouterr().err
    assert "(nobody answers)" in told and "einthoven sync" in told
    cli.main(["sync", str(workplace / "away")])
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("away").experiment_id])
    assert run.info.status == "FINISHED" and {"train/loss", "test/macro_auroc"} <= set(run.data.metrics)
    assert run.data.params["model.parameters"] and run.data.tags["mlflow.note.content"]


def test_a_run_that_fails_before_its_training_is_closed(
    train: Callable[..., None], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room for the parameters")

    monkeypatch.setattr(start, "_log_start", fail)
    with pytest.raises(SystemExit):
        train(*FAST, "tracking.experiment=begun", "hydra.run.dir=begun")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("begun").experiment_id])
    assert run.info.status == "FAILED" and "no room for the parameters" in run.data.tags["error"]


@pytest.mark.parametrize("has_store", [False, True])
def test_a_full_disk_ends_a_training_at_once_with_a_sentence(
    train: Callable[..., None],
    workplace: Path,
    mlflow_db: Path,
    has_store: bool,
    small_disk: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = workplace / "mlflow.db"
    disk = small_disk("3m" if has_store else "1m")
    if has_store:
        store = disk / "mlflow.db"
        shutil.copy(mlflow_db, store)
    folder = disk / "run"
    begin = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        options = (*FAST, "trainer.epochs=200", "tracking.patience=100", "tracking.experiment=full_disk")
        train(*options, f"tracking.uri=sqlite:///{store}", f"hydra.run.dir={folder}")
    assert time.monotonic() - begin < 90
    output = capsys.readouterr()
    told = output.err.splitlines()
    assert ended.value.code == 2 and len(told) == 1
    assert "advice" not in output.out
    assert "No space left on device" in told[0] and str(folder) in told[0]
    assert OmegaConf.load(folder / "config.yaml").seed == 0
    kept = [point for point in SeriesFile(folder / "tracking").after({}) if point.metric == "train/loss"]
    client = MlflowClient(f"sqlite:///{store}")
    (run,) = client.search_runs([client.get_experiment_by_name("full_disk").experiment_id])
    if has_store:
        return
    found = client.get_metric_history(run.info.run_id, "train/loss")
    assert run.info.status == "FAILED" and len(kept) >= len(found) > 0
