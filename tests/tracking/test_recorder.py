from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from einthoven.tracking.recorder import Recorder, closing


@pytest.fixture
def uri(tmp_path: Path, mlflow_db: Path) -> str:
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def open_run(uri: str, **options: object) -> Recorder:
    folder = Path(uri.removeprefix("sqlite:///")).parent / "run"
    return Recorder(uri, "experiment", "run", folder=folder, tags={"a": "b"}, **options)  # type: ignore[arg-type]


def kill(recorder: Recorder) -> None:
    """Leave a recorder as the end of its process would: nothing more is sent, and the folder is free."""
    recorder._entries.close()
    recorder._files.close()
    recorder._lock.release()


def test_every_step_arrives_once_with_its_value(uri: str) -> None:
    recorder = open_run(uri, interval=7)
    for step in range(1, 31):
        recorder.record(step, {"train/loss": torch.tensor(1.0 / step), "optim/lr": 0.1 * step})
    recorder.finish()
    history = MlflowClient(uri).get_metric_history(recorder.run_id, "train/loss")
    assert [m.step for m in sorted(history, key=lambda m: m.step)] == list(range(1, 31))
    assert recorder.history["train/loss"][1] == pytest.approx([1.0 / step for step in range(1, 31)])
    assert recorder.latest["optim/lr"] == pytest.approx(3.0)
    assert MlflowClient(uri).get_run(recorder.run_id).info.status == "FINISHED"


def test_nothing_is_moved_before_a_flush_and_all_at_once_then(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, stacks = open_run(uri, interval=10), []
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda tensors: (stacks.append(len(tensors)), stack(tensors))[1])
    for step in range(1, 10):
        recorder.record(step, {"a": torch.tensor(0.0), "b": torch.tensor(1.0)})
    assert stacks == []
    recorder.record(10, {"a": torch.tensor(0.0), "b": torch.tensor(1.0)})
    assert stacks == [20]
    recorder.finish()


def test_a_continued_run_writes_no_step_twice(uri: str) -> None:
    first = open_run(uri)
    for step in range(1, 11):
        first.record(step, {"train/loss": float(step)})
        if step == 6:
            first.flush()
            position = first.position
    first.flush()
    kill(first)
    second = open_run(uri, run_id=first.run_id, position=position)
    for step in range(7, 21):
        second.record(step, {"train/loss": float(step)})
    second.finish()
    history = MlflowClient(uri).get_metric_history(first.run_id, "train/loss")
    assert sorted((m.step, m.value) for m in history) == [(step, float(step)) for step in range(1, 21)]
    assert second.history["train/loss"][0] == list(range(1, 21))


def test_more_metrics_than_one_call_takes(uri: str) -> None:
    recorder = open_run(uri, interval=10_000)
    for step in range(1, 1101):
        recorder.record(step, {"a": 1.0, "b": 2.0})
    recorder.finish()
    assert len(MlflowClient(uri).get_metric_history(recorder.run_id, "b")) == 1100


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_run_that_breaks_off_is_closed_as_such(uri: str, error: BaseException, status: str) -> None:
    recorder = open_run(uri)
    with pytest.raises(type(error)), closing(recorder):
        recorder.record(1, {"a": 1.0})
        raise error
    run = MlflowClient(uri).get_run(recorder.run_id)
    assert (run.info.status, run.data.metrics) == (status, {"a": 1.0})
