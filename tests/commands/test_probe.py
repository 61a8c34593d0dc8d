"""`einthoven probe`: what the embeddings of a run contain, beside random encoders."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from einthoven import cli
from einthoven.models.encoder import embed
from einthoven.runs.evaluation.encoder import read_encoder
from einthoven.runs.network.finished import read_finished
from einthoven.tracking.server import client

Train = Callable[..., None]
FOLDS = ("data.folds.train=[2,3,4]", "data.folds.val=[5]", "data.folds.test=[6]")
JUDGED = ("data.folds.train=[2,3,4,5,6,7]", "data.folds.val=[1,8,9,10]", "data.folds.test=[]")
SMALL = ("model=conv_attention", "model.channels=[8,8]", "model.heads=2", "model.window=1.0")


@pytest.fixture
def run(train: Train, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that reads windows of 5 s, trained once."""
    folder = workplace / "probe" / "run"
    if not folder.exists():
        own = ("tracking.experiment=probed", f"hydra.run.dir={folder}", "diagnostics=none")
        train(*FOLDS, *SMALL, "augment=none", "trainer.epochs=1", "trainer.window=5", *own)
    monkeypatch.chdir(workplace)
    return folder


def probe(folder: Path, corpus: Path, *overrides: str) -> int:
    """Exit code of `einthoven probe` on the small corpus."""
    try:
        cli.main(["probe", f"run={folder}", "data=ptbxl", f"data.root={corpus}", "resamples=40", *JUDGED, *overrides])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_run_is_probed_beside_random_encoders(
    run: Path, workplace: Path, corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert probe(run, corpus, "random=2", "neighbours=5") == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "of 2 random encoders" in shown and "linear" in shown and "5 nearest" in shown
    content = json.loads((run / "probe.json").read_text())
    results = content["results"]

    # The same with scikit-learn, from signals that are read as in training.
    encoder = read_encoder(str(run))
    assert content["model"]["sha256"] == encoder.sha256
    folds = {"val": [1, 8, 9, 10], "test": [5, 6, 7]}
    data = read_finished(run, "run", folds)[0].data
    x, y = {}, {}
    for split in ("train", "val", "test"):
        rows = torch.arange(len(data.splits[split]))
        x[split] = encoder.embed(data.splits[split].take(rows, data.splits[split].samples)).numpy()
        y[split] = data.record_labels(split)
    train_x = np.concatenate([x["train"], x["test"]])
    train_y = np.concatenate([y["train"], y["test"]])
    strength = results["linear"]["inverse_strengths"][0]
    auroc = []
    for name in content["classes"]:
        k = data.labels.classes.index(name)
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
        fitted.fit(train_x, train_y[:, k])
        auroc.append(roc_auc_score(y["val"][:, k], fitted.decision_function(x["val"])))
    assert results["linear"]["auroc"] == pytest.approx(auroc, abs=0.02)  # the order of the records differs
    assert results["linear"]["macro_auroc"] == pytest.approx(np.mean(auroc), abs=0.01)

    for result in results.values():
        assert len(result["random"]) == 2 and result["random"][0] != result["random"][1]
        assert result["random_mean"] == pytest.approx(np.mean(result["random"]))
        assert result["random_sd"] == pytest.approx(np.std(result["random"], ddof=1))
        expected = result["macro_auroc"] - result["random_mean"]
        assert result["difference"]["difference"] == pytest.approx(expected)
        assert result["interval"]["low"] <= result["macro_auroc"] <= result["interval"]["high"]

    tracker = client(f"sqlite:///{workplace}/mlflow.db")
    (tracked,) = tracker.search_runs([tracker.get_experiment_by_name("probed").experiment_id])
    assert tracked.data.metrics["val/probe/linear_macro_auroc"] == pytest.approx(results["linear"]["macro_auroc"])
    assert "val/probe/neighbours_random_macro_auroc" in tracked.data.metrics
    assert tracked.info.status == "FINISHED"


def test_records_of_the_training_are_not_judged(run: Path, corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (run / "probe.json").read_bytes() if (run / "probe.json").exists() else None
    assert probe(run, corpus, "data.folds.train=[5,6,7]", "data.folds.val=[1,3]") == 2
    shown = capfd.readouterr().err
    assert shown.count("\n") == 1 and "of the records of val (folds [1, 3])" in shown
    assert before == ((run / "probe.json").read_bytes() if before else None)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["task=age"], "task=age: chooses a loss, which einthoven probe does not have"),
        (["task.shuffle_labels=true"], "the random encoders are the control"),
        (["report=train"], "report=train: expected val or test"),
        (["report=test"], "data.folds.test=[]: no labelled record there"),
        (["data.leads=[I,II]"], "reads the leads I II III"),
        (["data.seconds=2"], "reads windows of 5 s, and these records have 2 s"),
        (["neighbours=1000"], "neighbours=1000: expected a number from 1 to"),
        (["random=0"], "random=0"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    run: Path, corpus: Path, capfd: pytest.CaptureFixture[str], overrides: list[str], expected: str
) -> None:
    assert probe(run, corpus, *overrides) == 2
    shown = capfd.readouterr().err.strip().splitlines()
    assert len(shown) == 1 and expected in shown[0]


@pytest.mark.parametrize("pca", ["leads", "time"])
def test_a_checkpoint_has_the_encoder_of_the_bundle(train: Train, run: Path, tmp_path: Path, pca: str) -> None:
    folder = run
    if pca == "time":
        folder = tmp_path / "time"
        own = ("diagnostics=none", f"hydra.run.dir={folder}")
        train(*FOLDS, *SMALL, "augment=none", "trainer.epochs=1", "pca=time", *own)
    copy = tmp_path / "without_bundle"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("bundle", "tracking"))
    of_bundle, of_checkpoint = read_encoder(str(folder)), read_encoder(str(copy))
    assert of_bundle.kind == "bundle" and of_checkpoint.kind == "weights"
    assert of_bundle.input_format == of_checkpoint.input_format
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, (2, 12, 1000))).float()
    torch.testing.assert_close(of_bundle.embed(x), of_checkpoint.embed(x))


def test_a_pretraining_has_an_encoder_and_its_records_are_not_judged(
    train: Train, tmp_path: Path, corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pretraining"
    own = ("diagnostics=none", "trainer.epochs=1", "trainer.batch_size=16", f"hydra.run.dir={folder}")
    train(*FOLDS, *SMALL, "task=contrastive", *own)
    encoder = read_encoder(str(folder))
    assert encoder.kind == "weights"
    model = read_finished(folder, "run", {})[0].model.eval()
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, (2, 12, 1000))).float()
    with torch.inference_mode():
        expected = embed(model, x)
    torch.testing.assert_close(encoder.embed(x), expected, rtol=1e-4, atol=1e-5)
    assert probe(folder, corpus, "random=1") == 0
    content = json.loads((folder / "probe.json").read_text())
    assert content["model"] == {"sha256": encoder.sha256, "hash_of": "weights"}
    capfd.readouterr()
    assert probe(folder, corpus, "data.folds.train=[5,6,7]", "data.folds.val=[1,3]") == 2
    assert re.search(r"was trained on [1-6] of the records of val \(folds", capfd.readouterr().err)
