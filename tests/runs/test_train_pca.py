"""A run on principal components of time: what the network reads, and what the run says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from einthoven.runs.results import conclude


def test_a_run_reads_windows_as_shapes_and_says_what_they_explain(
    train: Callable[..., None], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of all the pictures, only this one is of the components.
    pictures = conclude.pictures
    monkeypatch.setattr(conclude, "pictures", lambda *run: {"pca_scree": pictures(*run)["pca_scree"]})
    fast = ("model=logistic", "trainer.epochs=1", "trainer.batch_size=8")
    train("pca=time", *fast, "tracking.experiment=pca_time", pictures=True)
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    found = client.get_experiment_by_name("pca_time")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    # 10 s at 100 Hz in windows of 24 samples, 4 apart: 245 steps of 12 leads x 6 shapes, 5 classes.
    assert run.data.params["model.parameters"] == str(12 * 6 * 245 * 5 + 5)
    table = client.load_table(found.experiment_id, "pca/explained_variance.json", run_ids=[run.info.run_id])
    assert table["component"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["share_of_variance"].is_monotonic_decreasing
    assert run.data.metrics["watch/pca/explained"] == pytest.approx(table["share_of_variance"].sum())
    assert 0 < run.data.metrics["watch/pca/explained"] < 1
    assert "pca_scree.png" in {Path(file.path).name for file in client.list_artifacts(run.info.run_id, "figures")}
