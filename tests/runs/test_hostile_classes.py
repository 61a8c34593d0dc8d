"""Classes with names that MLflow, matplotlib, rich, CSV or a file system would take for something else."""

from __future__ import annotations

import csv
import json
import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from einthoven import cli
from einthoven.functional.class_names import parts

CLASSES = [
    "ST>1",
    "ST<1",
    "AF//RBBB",
    ".",
    "..",
    "b/",
    "NORM",
    "norm",
    "x" * 260,
    "[/red]",
    r"$\foo$",
    "_hidden",
    "♥ 心",
    "file",
    "file_low",
    "a|b",
    "10% & <b>",
]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A folder of signals; each record has three of the classes."""
    folder = tmp_path / "records"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels", "strat_fold"])
        for k in range(60):
            np.save(folder / f"r{k}.npy", rng.normal(0, 0.1 + 0.1 * (k % 3), (12, 1000)).astype("f4"))
            chosen = {CLASSES[(k + step) % len(CLASSES)] for step in (0, 5, 7)}
            writer.writerow([f"r{k}.npy", ";".join(sorted(chosen)), k % 10 + 1])
    return folder


def test_every_class_has_its_metrics_and_tables(
    records: Path,
    tmp_path: Path,
    mlflow_db: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(mlflow_db, "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    leads = "[I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6]"
    data = ["data=folder", f"data.root={records}", "task=columns", f"data.file_leads={leads}", "data.file_fs=100"]
    folds = ["data.file_units=mV", "data.fold_column=strat_fold", "data.folds.train=[1,2,3,4]"]
    folds += ["data.folds.val=[5,6,7]", "data.folds.test=[8,9,10]"]
    short = ["model=logistic", "trainer.epochs=1", "trainer.batch_size=8", "hydra.run.dir=run"]
    cli.main(["train", *data, *folds, *short, f"tracking.uri={uri}", "tracking.artifacts=false"])
    client = MlflowClient(uri)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == "FINISHED"
    refused = [path for path in Path("run/tracking").glob("*.refused") if path.stat().st_size]
    assert not refused

    # Each class has one metric, and one value at a step.
    names = parts(sorted(CLASSES))
    for group in ("val/auroc", "test/auroc", "val/calibration_gap"):
        assert {name for name in run.data.metrics if name.startswith(f"{group}/")} == {
            f"{group}/{written}" for written in names.values()
        }
    for name in run.data.metrics:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps))
    table = client.load_table(run.info.experiment_id, "classes.json", run_ids=[run.info.run_id])
    assert dict(zip(table["class"], table["metric name"], strict=True)) == names

    # What is printed and written of them, each by its own name.
    capsys.readouterr()
    cli.main(["evaluate", "run=run", "resamples=20"])
    printed = capsys.readouterr().out
    assert "AUROC [/red]" in printed and "AUROC ST>1" in printed
    card = Path("run/model_card.md").read_text()
    assert "| AUROC ST>1 |" in card and r"| AUROC a\|b |" in card
    evaluation = json.loads(Path("run/evaluation.json").read_text())
    assert set(evaluation["auroc"]) == set(CLASSES)

    cli.main(
        [
            "predict",
            "run",
            str(records / "r0.npy"),
            "--csv",
            "--fs",
            "100",
            "--units",
            "mV",
            "--leads",
            leads.strip("[]"),
        ]
    )
    header = next(csv.reader(StringIO(capsys.readouterr().out)))
    assert len(header) == len(set(header)) and header[:2] == ["file", "start_s"] and {*CLASSES} - {"file"} <= {*header}

    cli.main(["report", "run", "output=page.html"])
    page = Path("page.html").read_text()
    assert "<b>" not in page.split("10% &amp; ")[1][:10] and "ST&gt;1" in page
