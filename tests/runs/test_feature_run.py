"""Models that are fitted to features run through the same pipeline as networks, and say what they leave out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from einthoven.data.store.splits import DeviceSplit
from einthoven.errors import UserError
from einthoven.runs.data.feature_table import measure_features

MODELS = ("forest", "decision_tree", "gradient_boosting", "naive_bayes")
SMALL = {"forest": ("model.trees=20",), "gradient_boosting": ("model.rounds=5",)}

Train = Callable[..., None]


def only_run(workplace: Path, experiment: str) -> tuple[MlflowRun, MlflowClient]:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run, client


def fitted(train: Train, workplace: Path, model: str) -> tuple[MlflowRun, MlflowClient]:
    """The run of a model, in the folder ``fitted/MODEL``. It is trained once."""
    folder = workplace / "fitted" / model
    if not folder.exists():
        train(f"model={model}", *SMALL.get(model, ()), f"tracking.experiment={model}", f"hydra.run.dir={folder}")
    return only_run(workplace, model)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_is_recorded_as_that_of_a_network_is(train: Train, workplace: Path, model: str) -> None:
    run, client = fitted(train, workplace, model)
    wanted = {f"{split}/{name}" for split in ("val", "test") for name in ("macro_auroc", "loss", "fmax")}
    assert set(run.data.metrics) >= wanted | {"test/macro_auroc_low", "test/macro_auroc_high"}
    assert all(np.isfinite(value) for value in run.data.metrics.values())
    groups = {name.split(".")[0] for name in run.data.params}
    assert groups == {"data", "task", "model", "seed"}
    assert run.info.run_name == f"ptbxl-{model}-seed0"
    files = {
        Path(file.path).name
        for folder in ("figures", "predictions", "checkpoints", "features")
        for file in client.list_artifacts(run.info.run_id, folder)
    }
    assert files >= {
        "roc_val.png",
        "importance.png",
        "ecg_worst_1.png",
        "val.parquet",
        "fitted.skops",
        "importance.json",
    }
    gain = {"information_gain.png", "information_gain.json"}
    assert gain <= files or (model == "naive_bayes" and gain.isdisjoint(files))
    table = client.load_table(run.info.experiment_id, "predictions/test.parquet", run_ids=[run.info.run_id])
    p, y = (table.filter(like=kind).to_numpy() for kind in ("_probability", "_label"))
    assert ((p >= 0) & (p <= 1)).all()
    from sklearn.metrics import roc_auc_score

    some = (y.min(axis=0) == 0) & (y.max(axis=0) == 1)
    macro = np.mean([roc_auc_score(y[:, k], p[:, k]) for k in np.flatnonzero(some)])
    # The table has six decimals. Probabilities of naive Bayes are so small that they tie there.
    if model != "naive_bayes":
        assert run.data.metrics["test/macro_auroc"] == pytest.approx(macro, abs=1e-4)


def test_the_file_of_a_run_gives_its_probabilities_again(train: Train, workplace: Path) -> None:
    from einthoven.functional.features import ecg_features
    from einthoven.models import features
    from einthoven.models.trees import RandomForest

    run, client = fitted(train, workplace, "forest")
    table = client.load_table(run.info.experiment_id, "predictions/val.parquet", run_ids=[run.info.run_id])
    model = RandomForest(20, 20, 0.15, 2)
    notes = features.load(model, workplace / "fitted" / "forest" / "checkpoints" / "fitted.skops")
    signals = _signals_of(workplace, run.data.tags["data.fingerprint"], table["ecg_id"].tolist())
    p = model.predict(model.table.transform(ecg_features(signals, notes["fs"], notes["leads"])))
    expected = table[[f"{name}_probability" for name in notes["classes"]]].to_numpy()
    np.testing.assert_allclose(p, expected, atol=1e-5)


def _signals_of(
    workplace: Path, fingerprint: str, ecg_ids: list[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    from einthoven.data.store.open_store import open_store

    # Other tests may have built other stores in the same folder.
    stores = map(open_store, (workplace / "data" / "stores").iterdir())
    store = next(store for store in stores if store.fingerprint.startswith(fingerprint))
    rows = [store.table["ecg_id"].tolist().index(ecg_id) for ecg_id in ecg_ids]
    return (store.signals[rows] * 1e-3).astype(np.float32)


@pytest.mark.parametrize(
    "override", ["optimizer=sgd", "trainer.epochs=3", "pca.k=4", "augment=none", "task.temperature=2.0"]
)
def test_an_option_without_use_is_refused(train: Train, capsys: pytest.CaptureFixture[str], override: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        train("model=forest", override)
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert f"{override}: this model is fitted to features at once" in message and "Traceback" not in message


def test_records_that_are_too_slow_for_features_are_refused() -> None:
    signals = torch.zeros(2, 1, 100, dtype=torch.int16)
    split = DeviceSplit.of_loaded(signals, np.arange(2), np.zeros((2, 3)))
    features, _ = measure_features(split, 20.0, ["I"])
    assert len(features.values) == 2
    with pytest.raises(UserError, match=r"data\.fs=19: ECG features are measured at 20 Hz at least"):
        measure_features(split, 19.0, ["I"])


def test_cross_validation_of_a_fitted_model(train: Train, workplace: Path) -> None:
    folds = ("folds=cv", "data.folds.train=[1,2]")
    train("model=naive_bayes", *folds, "tracking.artifacts=false", "tracking.experiment=fitted_cv")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("fitted_cv").experiment_id])
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert len(found) == 3 and 0 <= parent.data.metrics["val/macro_auroc"] <= 1
