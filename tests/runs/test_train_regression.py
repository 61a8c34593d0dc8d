"""A quantity is trained, reported and exported in its own unit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from sklearn.metrics import mean_absolute_error, r2_score

from einthoven import cli
from einthoven.contracts import Predictions
from einthoven.data.store.open_store import open_store
from einthoven.runs.data.run_data import Data
from einthoven.runs.results.conclude import _pipeline
from einthoven.training import checkpoint
from two_steps import Bench, composed

Train = Callable[..., None]
FAST = ("model=logistic", "trainer.epochs=2", "trainer.batch_size=8")


def runs(workplace: Path, experiment: str) -> list[MlflowRun]:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def predictions(run: MlflowRun, workplace: Path, split: str) -> pd.DataFrame:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    table: pd.DataFrame = client.load_table(
        run.info.experiment_id, f"predictions/{split}.parquet", run_ids=[run.info.run_id]
    )
    return table


@pytest.fixture
def of_age(train: Train, workplace: Path) -> MlflowRun:
    """One run on the ages of the corpus, made once."""
    if not (workplace / "age").exists():
        train(*FAST, "task=age", "hydra.run.dir=age", "tracking.experiment=age", pictures=True)
    (run,) = runs(workplace, "age")
    return run


def test_metrics_and_predictions_are_in_years(of_age: MlflowRun, workplace: Path) -> None:
    table, metrics = predictions(of_age, workplace, "test"), of_age.data.metrics
    assert table["age"].between(40, 70).all()  # as the corpus has them
    y, p = table["age"], table["age_predicted"]
    assert metrics["test/mae"] == pytest.approx(mean_absolute_error(y, p), rel=1e-4)
    assert metrics["test/r2"] == pytest.approx(r2_score(y, p), rel=1e-3)
    for name in ("mae", "rmse", "r2"):
        assert metrics[f"test/{name}_low"] <= metrics[f"test/{name}"] <= metrics[f"test/{name}_high"]
    assert {"train/loss", "val/loss", "val/mae", "val/r2", "watch/grad/norm"} <= set(metrics)
    assert not {"watch/diag/kl_drift", "watch/diag/entropy", "val/macro_auroc"} & set(metrics)
    assert of_age.data.tags["task"] == "age"
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    pictures = {Path(file.path).stem for file in client.list_artifacts(of_age.info.run_id, "figures")}
    assert {"agreement_val", "agreement_test", "loss", "ecg_best_1", "ecg_worst_1"} <= pictures


def test_the_exported_model_gives_years(
    of_age: MlflowRun, workplace: Path, load_model: Callable[[MlflowRun], Any]
) -> None:
    model = load_model(of_age)
    stores = map(open_store, (path for path in (workplace / "data" / "stores").iterdir() if path.is_dir()))
    store = next(s for s in stores if s.fingerprint.startswith(of_age.data.tags["data.fingerprint"]))
    table = predictions(of_age, workplace, "test")
    rows = np.flatnonzero(np.isin(store.table["ecg_id"], table["ecg_id"]))
    found = model.predict((store.signals[rows] * 1e-3).astype(np.float32))
    np.testing.assert_allclose(found[:, 0], table["age_predicted"], atol=2e-3)


def test_the_checkpoint_says_what_the_targets_were_standardized_by(of_age: MlflowRun, workplace: Path) -> None:
    _, meta = checkpoint.load(workplace / "age" / "checkpoints" / "last.safetensors")
    stores = map(open_store, (path for path in (workplace / "data" / "stores").iterdir() if path.is_dir()))
    store = next(s for s in stores if s.fingerprint.startswith(of_age.data.tags["data.fingerprint"]))
    train = store.table["age"][store.table["strat_fold"] <= 8]
    assert meta["classes"] == ["age"]
    assert meta["task"] == {"mean": pytest.approx(train.mean()), "sd": pytest.approx(train.std(ddof=0))}


def test_folds_are_pooled(train: Train, workplace: Path) -> None:
    train(
        *FAST, "task=age", "folds=cv", "data.folds.train=[1,2]", "tracking.artifacts=false", "tracking.experiment=cv2"
    )
    found = runs(workplace, "cv2")
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    errors = [run.data.metrics["val/mae"] for run in found if run is not parent]
    assert min(errors) <= parent.data.metrics["val/mae"] <= max(errors)
    note = parent.data.tags["mlflow.note.content"]
    assert "| held out | records | R² |" in note
    assert re.search(r"\| pooled \| \d+ \| -?[\d.]+ \(-?[\d.]+ to -?[\d.]+\) \|", note)


def test_an_angle_is_exported_in_degrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Bench(tmp_path, monkeypatch).assembled(composed("task=axis", "trainer.stride=2"))
    found = run.evaluate("val", "fp32")
    target, error = run.task.targets_and_errors(found.y, found.p)
    split = run.data.splits["val"]
    x = split.take(torch.arange(len(split)), split.samples)
    exported = torch.export.export(_pipeline(run), (x,)).module()
    degrees = exported(x)[:, 0].detach().numpy()
    assert degrees.shape == target.shape and np.abs(degrees).max() <= 180
    np.testing.assert_allclose((target + error - degrees + 180) % 360, 180, atol=1e-2)


def test_a_record_of_several_windows_has_the_mean_of_what_was_measured_in_them() -> None:
    table = pd.DataFrame({"record_id": [7, 7, 3, 3, 3], "start_s": [0.0, 10.0, 0.0, 10.0, 20.0]})
    rows = np.arange(5)
    data = Data(SimpleNamespace(table=table), None, {"val": rows}, rows, {}, None)  # type: ignore[arg-type]
    y, p = np.array([[60.0, 80.0, 50.0, 70.0, 75.0], [61.0, 81.0, 50.0, 60.0, 70.0]])[..., None]
    found = data.by_record("val", Predictions(y, p), "mean")
    assert (found.y.tolist(), found.p.tolist()) == ([[70.0], [65.0]], [[71.0], [60.0]])


def test_weights_are_chosen_by_r2(train: Train, workplace: Path) -> None:
    more = ("trainer.epochs=4", "trainer.patience=2", "trainer.select=best", "tracking.artifacts=false")
    train(*FAST, *more, "task=heart_rate", "hydra.run.dir=rate", "tracking.experiment=rate")
    (run,) = runs(workplace, "rate")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    r2 = [m.value for m in sorted(client.get_metric_history(run.info.run_id, "val/r2"), key=lambda m: m.step)]
    # The result of the run is that of the chosen weights.
    assert run.data.metrics["val/r2"] == pytest.approx(max(r2), abs=1e-6)
    _, meta = checkpoint.load(workplace / "rate" / "checkpoints" / "best.safetensors")
    assert meta["position"]["best"] == pytest.approx(max(r2))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("task=heart_rate", "loss=focal"), "loss=focal: it is a loss of classes, and this task predicts a quantity"),
        (("loss=mse",), "loss=mse: it is a loss of a quantity, and this task predicts classes"),
        (("task=axis", "trainer.aggregate=max"), "trainer.aggregate=max"),
        (("task=axis", "task.target=heart_rat"), "task.target=heart_rat: expected heart_rate"),
        (("task=heart_rate", "trainer.sampler=balanced"), "trainer.sampler=balanced"),
        (("task=heart_rate", "augment=time_stretch"), "can make labels of this task true or false: heart_rate"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_does_not_fit_a_quantity_is_refused(
    options: tuple[str, ...], expected: str, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train(*FAST, *options)
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_models_of_features_and_the_evaluation_of_probabilities_refuse_a_quantity(
    train: Train, of_age: MlflowRun, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train("model=forest", "task=age")
    assert "task.target=age: this model is fitted to classes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["evaluate", f"run={workplace / 'age'}"])
    assert "predicts age, which has no probabilities to calibrate" in capsys.readouterr().err
