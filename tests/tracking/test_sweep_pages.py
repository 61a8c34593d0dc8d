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


def test_a_run_of_another_command_has_the_overrides_of_the_sweep(tmp_path: Path, mlflow_db: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(mlflow_db.read_bytes())
    tracking = client(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = tracking.create_experiment("taken")
    parent = tracking.create_run(experiment).info.run_id
    # `einthoven train data=x` has trained with AdamW, its default, and the sweep varies the optimizer.
    alone = tracking.create_run(experiment, tags={"einthoven.overrides": "data=x", "config.hash": "a"})
    tags = {"mlflow.parentRunId": parent, "config.hash": "b", "einthoven.overrides": "data=x optimizer=sgd seed=0"}
    tracking.create_run(experiment, tags=tags)
    sweep.count_below(tracking, parent, alone, "data=x optimizer=adamw seed=0")
    runs = sweep.children(tracking, parent)
    assert [sweep.overrides(run) for run in runs] == ["data=x optimizer=adamw seed=0", tags["einthoven.overrides"]]
    assert sweep.differing_options(runs) == [{"optimizer": "adamw"}, {"optimizer": "sgd"}]
    # Elsewhere, the run keeps its own, and so it does below a parent run of an earlier version.
    assert sweep.overrides(tracking.get_run(alone.info.run_id)) == "data=x"
    tracking.set_tag(alone.info.run_id, f"sweep.found.{parent}", "true")
    assert sweep.overrides(sweep.children(tracking, parent)[0]) == "data=x"
