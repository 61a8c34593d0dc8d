from __future__ import annotations

import json
import shutil
from pathlib import Path

from mlflow import MlflowClient

from einthoven.tracking.runs_list import TAG, runs_list, show_results, view_tag
from einthoven.tracking.server import experiment_id

LONGEST_TAG = 5000  # characters of a tag of an experiment that MLflow takes


def test_the_columns_are_results_model_optimizer_and_seed() -> None:
    view = json.loads(view_tag()[TAG])
    columns = view["selectedColumns"]
    assert columns[0] == "metrics.`test/macro_auroc`"
    assert columns[-3:] == ["params.`model`", "params.`optimizer`", "params.`seed`"]
    assert {chart["metricKey"] for chart in view["compareRunCharts"]} >= {"val/macro_auroc", "train/loss"}
    assert len(view_tag()[TAG]) < LONGEST_TAG
    address = runs_list("http://127.0.0.1:1", "7")
    assert address.endswith("/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=einthoven")


def test_each_experiment_gets_the_view(tmp_path: Path, mlflow_db: Path) -> None:
    shutil.copy(mlflow_db, tmp_path / "mlflow.db")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    new = client.get_experiment(experiment_id(client, "new"))
    assert new.tags[TAG] == view_tag()[TAG]
    old = client.get_experiment(client.create_experiment("old"))
    show_results(client, old)
    assert client.get_experiment(old.experiment_id).tags[TAG] == view_tag()[TAG]
