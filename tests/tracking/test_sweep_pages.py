"""A sweep of more runs than a page of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from einthoven.tracking import sweep
from einthoven.tracking.server import client


def test_runs_of_all_pages_are_children(tmp_path: Path, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_bytes(mlflow_db.read_bytes())
    tracking = client(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = tracking.create_experiment("pages")
    parent = tracking.create_run(experiment).info.run_id
    names = {f"run {number}" for number in range(5)}
    for name in sorted(names):
        tracking.create_run(experiment, run_name=name, tags={"mlflow.parentRunId": parent, "config.hash": name})
    monkeypatch.setattr(sweep, "_RUNS_PER_ANSWER", 2)
    assert {run.info.run_name for run in sweep.children(tracking, parent)} == names
