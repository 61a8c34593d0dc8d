"""Whole runs on other records than PTB-XL's: fewer leads, long records, one's own folder, several sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from einthoven import cli
from einthoven.runs.results import conclude

FAST = ("model=logistic", "trainer.epochs=1", "trainer.batch_size=8")
BARE = "tracking.artifacts=false"  # of pictures, tables and exported models, which take longer than the training
TrainOn = Callable[..., MlflowRun]


@pytest.fixture
def train_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> TrainOn:
    """Train on the given data, and return the run."""

    def run(name: str, *overrides: str, pictures: bool = True) -> MlflowRun:
        monkeypatch.chdir(workplace)
        if not pictures:
            monkeypatch.setattr(conclude, "pictures", lambda *_: {})
        uri = f"sqlite:///{workplace}/mlflow.db"
        cli.main(["train", f"tracking.uri={uri}", f"tracking.experiment={name}", *FAST, *overrides])
        experiment = MlflowClient(uri).get_experiment_by_name(name)
        assert experiment is not None
        (found,) = MlflowClient(uri).search_runs([experiment.experiment_id])
        return found

    return run


def predictions(run: MlflowRun, workplace: Path, split: str) -> pd.DataFrame:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    table: pd.DataFrame = client.load_table(
        run.info.experiment_id, f"predictions/{split}.parquet", run_ids=[run.info.run_id]
    )
    return table


def test_one_lead_from_the_store_to_the_exported_model(
    train_on: TrainOn, workplace: Path, corpus: Path, load_model: Callable[[MlflowRun], Any]
) -> None:
    small = ("model=conv_attention", "model.channels=[8,8]", "model.heads=2", "model.window=1.0")
    run = train_on("lead", "data=ptbxl", f"data.root={corpus}", "data.leads=[I]", *small)
    assert run.data.params["pca.k"] == "8"  # of one lead there is one component
    model = load_model(run)
    assert model.predict(np.zeros((2, 1, 1000), np.float32)).shape == (2, 5)
    told = model.metadata.metadata
    assert told["leads"] == ["I"] and told["fs"] == 100 and len(told["classes"]) == 5
    figures = MlflowClient(f"sqlite:///{workplace}/mlflow.db").list_artifacts(run.info.run_id, "figures")
    assert {"figures/ecg_worst_1.png", "figures/pca_scree.png"} <= {file.path for file in figures}


def test_the_challenge_with_long_records_as_windows(train_on: TrainOn, workplace: Path, real_data: Path) -> None:
    options = ("data=cinc2021", f"data.root={real_data / 'cinc2021'}", "task=cinc2021")
    folds = ("data.folds.train=[2,3,4,5,6,7,8,9,10]", "data.folds.val=[1]", "data.folds.test=[]")  # S0001 is in 1
    run = train_on("cinc", *options, "data.long=slide", *folds, pictures=False)
    table = predictions(run, workplace, "val")
    own = table[table["record_id"] == table["record_id"][table["start_s"].idxmax()]]
    assert len(own) > 1 and own["start_s"].is_monotonic_increasing and table["ecg_id"].is_unique
    # the metrics are of records: each the mean of its windows
    from einthoven.evaluation.metrics import macro_auroc

    by_record = table.groupby("record_id").mean()
    assert len(by_record) < len(table)
    # A class that no training record holds, or every one, is not judged.
    judged = [name.removeprefix("val/auroc/") for name in run.data.metrics if name.startswith("val/auroc/")]
    assert {"LAD", "LQRSV"}.isdisjoint(judged) and len(judged) == 7
    y, p = (by_record[[f"{name}_{kind}" for name in judged]].to_numpy() for kind in ("label", "probability"))
    assert run.data.metrics["val/macro_auroc"] == pytest.approx(macro_auroc(y, p), abs=1e-6)
    assert "val/challenge_score" in run.data.metrics


def test_several_sources_on_their_shared_classes(train_on: TrainOn, real_data: Path) -> None:
    run = train_on(
        "concat",
        "data=concat",
        "+data@data.sources.ptbxl=ptbxl",
        f"data.sources.ptbxl.root={real_data / 'ptbxl'}",
        "+data@data.sources.cinc2021=cinc2021",
        f"data.sources.cinc2021.root={real_data / 'cinc2021'}",
        "data.sources.cinc2021.only=[georgia,ningbo]",
        "+data@data.sources.synthetic=synthetic",
        "data.sources.synthetic.records=40",
        "data.leads=[I,II,V2]",
        "data.seconds=2.5",
        BARE,
    )
    assert run.data.params["data.classes"] == "5" and np.isfinite(run.data.metrics["val/macro_auroc"])


def test_a_folder_of_ones_own(
    train_on: TrainOn, tmp_path: Path, write_record: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rng, rows = np.random.default_rng(0), ["file,what"]
    for k in range(40):
        write_record(tmp_path, f"r{k}", rng.integers(-500, 500, (12, 2000 + 100 * k)), 200)
        rows.append(f"r{k}.hea,{('AF', 'PVC', 'AF PVC', '')[k % 4]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    columns = ("data.path_column=file", "data.label_column=what", "data.separator=' '")
    run = train_on("folder", "data=folder", f"data.root={tmp_path}", "task=columns", BARE, *columns)
    assert {"test/auroc/AF", "test/auroc/PVC"} <= set(run.data.metrics)
    assert "no data.patient_column" in capsys.readouterr().out


def test_a_split_without_a_class_of_both_labels_is_announced_and_left_out(
    train_on: TrainOn, tmp_path: Path, write_record: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rng, rows = np.random.default_rng(0), ["path,labels,fold"]
    for k in range(20):  # all of fold 2 are AF alone, all of fold 3 nothing
        write_record(tmp_path, f"r{k}", rng.integers(-500, 500, (12, 1000)))
        labels = ("AF", "AF;PVC", "", "")[k % 4] if k < 16 else ("AF", "")[k // 18]
        rows.append(f"r{k},{labels},{1 + k // 16 + k // 18}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    folds = ("data.fold_column=fold", "data.folds.train=[1]", "data.folds.val=[2]", "data.folds.test=[3]")
    run = train_on("one_sided", "data=folder", f"data.root={tmp_path}", "task=columns", BARE, *folds)
    said = " ".join(capsys.readouterr().out.split())
    assert "There are no val metrics of fold 2: no class has both labels there." in said
    assert "There are no test metrics of fold 3: no class has both labels there." in said
    assert "train/loss" in run.data.metrics and run.info.status == "FINISHED"
    assert not [name for name in run.data.metrics if name.startswith(("val/", "test/"))]


def test_a_label_set_that_the_data_lack_is_refused_before_they_are_read(
    train_on: TrainOn, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train_on("refused", "data=ptbxl", f"data.root={corpus}", "task=cinc2021", "data.cache=nowhere")
    said = " ".join(capsys.readouterr().err.split())
    assert "task.labels=cinc2021: these data have all, diagnostic" in said
    assert "expected one of them, such as task=all." in said
    assert not Path("nowhere").exists()
