from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from einthoven.runs.results import advice

FAST = ("model=logistic", "trainer.epochs=2", "trainer.batch_size=8", "tracking.artifacts=false")
NOTE = "mlflow.note.content"


def last_run(workplace: Path) -> MlflowRun:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    found = client.get_experiment_by_name("advice")
    assert found is not None
    run: MlflowRun = client.search_runs([found.experiment_id], order_by=["attributes.start_time DESC"])[0]
    return run


def test_a_run_says_what_it_was_and_what_came_out(
    train: Callable[..., None], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(*FAST, "tracking.experiment=advice", "model=mlp", "model.width=8", "optimizer.lr=1e-9")
    run, printed = last_run(workplace), capsys.readouterr().out
    note, metrics = run.data.tags[NOTE], run.data.metrics
    assert note.startswith(f"**Macro AUROC {metrics['test/macro_auroc']:.3f} (")
    assert "\n### Advice\n\n1. **The learning rate is too low" in note
    assert "\n**superdiagnostic**, 5 classes, on " in note
    assert f"{run.data.tags['data.records.train']} train" in note and "2 of 2 epochs" in note
    low, high = metrics["test/macro_auroc_low"], metrics["test/macro_auroc_high"]
    assert f"{metrics['test/macro_auroc']:.3f} ({low:.3f} to {high:.3f}, 95 %)" in note
    assert "Advice 1: " in printed and "The learning rate is too low" in printed


def test_what_the_splits_hold_is_recorded_before_training(train: Callable[..., None], workplace: Path) -> None:
    train(*FAST, "tracking.experiment=advice")
    run = last_run(workplace)
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    table = client.load_table(run.info.experiment_id, "data.json", run_ids=[run.info.run_id])
    rows = table.set_index(["measure", "split", "class"])["value"]
    assert rows["patients", "train-test", ""] == 0.0 and rows["share", "train", "NORM"] > 0
    assert rows["records", "train", ""] == float(run.data.tags["data.records.train"])
    assert not any(name.startswith("data/") for name in run.data.metrics)
    assert not any(name.startswith("advice.") for name in run.data.params)


def test_a_run_that_diverges_has_its_advice(
    train: Callable[..., None], workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The augmentation is measured before the training. After an error, it might fail, too.
    measured = Mock(side_effect=[{}, RuntimeError])
    monkeypatch.setattr(advice, "measure_augmentation", measured)
    monkeypatch.setattr(advice, "measure_biases", lambda model, task, y: 0.9)
    with pytest.raises(SystemExit):
        train(*FAST, "tracking.experiment=advice", "optimizer=sgd", "optimizer.lr=1e30", "trainer.clip_norm=null")
    run, printed = last_run(workplace), capsys.readouterr()
    assert run.info.status == "FAILED" and measured.call_count == 1
    assert "**The run failed:**" in run.data.tags[NOTE] and "Training diverged: from step" in run.data.tags[NOTE]
    assert "Advice 1: The biases of the last layer start far from the shares" in printed.out
    assert "Training diverged: from step" in printed.out and "training diverged" in printed.err


def test_a_fitted_model_has_a_note_too(train: Callable[..., None], workplace: Path) -> None:
    train("model=naive_bayes", "tracking.experiment=advice", "tracking.artifacts=false")
    note = last_run(workplace).data.tags[NOTE]
    assert "NaiveBayes, fitted to ECG features" in note and "### The run" in note


def test_a_limit_that_is_no_number_is_refused_before_training(
    train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train(*FAST, "tracking.experiment=advice", "advice.learnt=0.1")
    assert "advice.learnt" in capsys.readouterr().err
