"""Models of ECG features as teachers and as members of a mean: which probabilities they give, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from einthoven import cli
from einthoven.errors import UserError
from einthoven.functional.outputs import logits_of
from einthoven.models.ensemble import Ensemble
from einthoven.predict import load_bundle
from einthoven.predict.bundle import read_bundle
from einthoven.predict.forward import predict_windows, predict_with_members
from einthoven.predict.model_folder import find_bundle
from einthoven.runs.base.read_base import read_base
from einthoven.runs.config.run_config import read_config
from einthoven.runs.network.finished import read_finished
from einthoven.runs.network.members import FeatureMember, features_of, read_member
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.training import checkpoint
from small_runs import NETWORK, SHORT, STUDENT, killed_after_epoch, sentence

Train = Callable[..., None]

FOREST = ("model=forest", "model.trees=15", "model.components=3")
BOOSTING = ("model=gradient_boosting", "model.rounds=8", "model.components=3", "model.lr=0.3", "model.l2=1")


@pytest.fixture
def forest(train: Train, workplace: Path) -> Path:
    """The run of a forest on folds 1 to 8. It is trained once."""
    folder = workplace / "members" / "forest"
    if not folder.exists():
        train(*FOREST, "tracking.artifacts=false", f"hydra.run.dir={folder}")
    return folder


@pytest.fixture
def network(train: Train, workplace: Path) -> Path:
    """The run of a network on folds 1 to 8. It is trained once."""
    folder = workplace / "members" / "network"
    if not folder.exists():
        train(*SHORT, *NETWORK, "tracking.experiment=networks", f"hydra.run.dir={folder}")
    return folder


@pytest.fixture
def boosting(train: Train, workplace: Path) -> Path:
    """The run of gradient boosting on folds 1 to 8. It is trained once."""
    folder = workplace / "members" / "boosting"
    if not folder.exists():
        # The usual leaves of 20 records allow no split of 33 records.
        small_leaves = partial(HistGradientBoostingClassifier, min_samples_leaf=3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sklearn.ensemble.HistGradientBoostingClassifier", small_leaves)
            train(*BOOSTING, "tracking.artifacts=false", f"hydra.run.dir={folder}")
    return folder


def opened(network: Path) -> NetworkParts:
    return read_finished(network, "run", {"val": None, "test": None})[0]


def member(folder: Path) -> FeatureMember:
    found = read_member(str(folder), "task.teacher")
    assert isinstance(found, FeatureMember)
    return found


def test_a_training_record_is_predicted_without_its_label_and_its_patient(forest: Path, network: Path) -> None:
    run = opened(network)
    features = features_of(run, "train")
    teacher = member(forest)
    p = teacher.predict_unseen(run, features)
    assert p.shape == (len(run.data.rows["train"]), 5) and p.min() > 0 and p.max() < 1

    # The labels of one patient do not change the probabilities of this patient, and change those of others.
    patients = run.data.labels.patients[run.data.rows["train"]]
    names, counts = np.unique(patients, return_counts=True)
    is_one = patients == names[counts.argmax()]
    assert is_one.sum() == 2
    matrix = run.data.labels.matrix.copy()
    rows = run.data.rows["train"][is_one]
    matrix[rows] = 1 - matrix[rows]
    run.data = replace(run.data, labels=replace(run.data.labels, matrix=matrix))
    flipped = teacher.predict_unseen(run, features)
    np.testing.assert_array_equal(flipped[is_one], p[is_one])
    assert np.abs(flipped - p).max() > 0.01

    # The forest itself has learned the labels by heart: its own answers are nearer to them.
    y = opened(network).data.record_labels("train")
    own = teacher.predict(features, run.data.labels.classes)
    assert np.abs(own - y).mean() < np.abs(p - y).mean() - 0.1


def test_records_that_the_model_has_not_seen_have_its_own_probabilities(
    train: Train, forest: Path, network: Path, workplace: Path
) -> None:
    folder = workplace / "members" / "small-forest"
    train(*FOREST, "data.folds.train=[1,2,3,4,5]", "tracking.artifacts=false", f"hydra.run.dir={folder}")
    run = opened(network)
    features = features_of(run, "train")
    teacher = member(folder)
    p = teacher.predict_unseen(run, features)
    own = teacher.predict(features, run.data.labels.classes)
    folds = run.data.table("train")["strat_fold"].to_numpy()
    np.testing.assert_array_equal(p[folds > 5], own[folds > 5])
    assert (p[folds <= 5] != own[folds <= 5]).any(axis=1).all()

    # A new record of a patient whom the model knows is predicted by a fit without this patient.
    rows = run.data.rows["train"]
    new, known = np.flatnonzero(folds > 5)[0], np.flatnonzero(folds <= 5)[0]
    patients = run.data.labels.patients.copy()
    patients[rows[new]] = patients[rows[known]]
    run.data = replace(run.data, labels=replace(run.data.labels, patients=patients))
    changed = teacher.predict_unseen(run, features)
    assert (changed[new] != own[new]).any()
    others = np.arange(len(p)) != new
    np.testing.assert_array_equal(changed[others], p[others])


def test_a_student_learns_from_a_network_and_a_forest(
    train: Train, forest: Path, network: Path, workplace: Path
) -> None:
    """What it logs, and that a run that was cut goes on bit for bit, with mixup."""
    options = [option for option in SHORT if option != "augment=none"]
    teachers = f"task.teacher=[{network},{forest}]"
    learn = (*options, *STUDENT, "augment=mixup", teachers, "task.teacher_weights=[1,3]", "task.label_weight=0.3")
    train(*learn, "tracking.experiment=students-of-members", "hydra.run.dir=members/whole")
    config = read_config(workplace / "members" / "whole", "run")
    hashes = [read_member(str(folder), "task.teacher").sha256 for folder in (network, forest)]
    assert list(config.task.teacher_sha256) == hashes and config.task.labels == "superdiagnostic"

    # The logged divergence is that of the weighted mean.
    run = opened(workplace / "members" / "whole")
    forest_p = member(forest).predict(features_of(run, "val"), run.data.labels.classes)
    p = (opened(network).evaluate("val", "fp32").p + 3 * forest_p) / 4
    q = run.evaluate("val", "fp32").p
    divergence = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    experiment = client.get_experiment_by_name("students-of-members")
    assert experiment is not None
    logged = client.search_runs([experiment.experiment_id])[0].data.metrics
    assert logged["val/kl_teacher"] == pytest.approx(divergence, rel=1e-4)

    with killed_after_epoch(1):
        train(*learn, "hydra.run.dir=members/cut")
    train("resume=members/cut")
    states = [
        checkpoint.load(workplace / "members" / name / "checkpoints" / "last.safetensors")[0]
        for name in ("whole", "cut")
    ]
    whole, cut = (state["model"] for state in states)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)

    # The bundle of the student answers without its teachers, and lists their records.
    assert "distilled from 2 models" in read_bundle(workplace / "members" / "whole" / "bundle").provenance["trained_on"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("data.folds.train=[5,6,7]",), "records that are no training records here; expected all of its records"),
        (("data.folds.train=[1,2,3]", "data.folds.val=[8]"), "of the records of val, such as ecg_id"),
        (("data.fs=500",), "reads records at 100 Hz, and these have 500 Hz"),
        (("task.labels=subdiagnostic",), "predicts CD HYP MI, which are no classes here; expected a model of the"),
        (("task.teacher_weights=[1,2]",), "task.teacher_weights=[1, 2]: 2 weights for 1 teachers; expected one for"),
        (("task.teacher_weights=[0]",), "task.teacher_weights=[0]: expected numbers above 0"),
        (("trainer.sampler=balanced",), "trainer.sampler=balanced: counts the labels of a record"),
    ],
)
def test_what_does_not_suit_a_forest_is_refused(
    train: Train, forest: Path, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        train(*SHORT, *STUDENT, f"task.teacher=[{forest}]", *overrides)
    assert words in sentence(exit_.value, capsys)


def test_a_forest_from_a_stranger_is_checked(forest: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(forest, copy)
    assert member(copy).sha256 == member(forest).sha256
    file = copy / "checkpoints" / "fitted.skops"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"task.teacher=.*damaged or changed"):
        member(copy)
    file.unlink()
    with pytest.raises(UserError, match=r"fitted.skops is missing; expected a finished run"):
        member(copy)


@pytest.mark.parametrize("single_label", [False, True], ids=["multi-label", "single-label"])
def test_known_probabilities_and_weights_in_an_ensemble(single_label: bool) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3))
    x = torch.randn(4, 2, 3)
    known = torch.rand(4, 2, 3)
    known /= known.sum(-1, keepdim=True)
    ensemble = Ensemble([network], [torch.arange(3)], [1.0], single_label, [0.2, 0.3, 0.5])

    def activation(z: torch.Tensor) -> torch.Tensor:
        return z.softmax(-1) if single_label else z.sigmoid()

    expected = 0.2 * activation(network(x)) + 0.3 * known[:, 0] + 0.5 * known[:, 1]
    torch.testing.assert_close(activation(ensemble(x, 1.0, known)), expected.detach())
    alone = Ensemble([], [], [], single_label)
    torch.testing.assert_close(activation(alone(x, 1.0, known[:, :1])), known[:, 0])
    # A temperature divides the logits of each member before the mean.
    softened = activation(logits_of(known, single_label) / 3).mean(dim=1)
    torch.testing.assert_close(activation(alone(x, 3.0, known)), softened)
    # Certain answers have finite logits.
    assert bool(logits_of(torch.tensor([[0.0, 1.0]]), single_label).isfinite().all())


def evaluate(*overrides: str) -> None:
    cli.main(["evaluate", "run=network", "resamples=40", *overrides])


def test_a_mean_of_a_network_and_a_forest_is_evaluated(
    train: Train, forest: Path, network: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace / "members")
    evaluate(f"mean_with=[{forest},{network}]", "weights=[1,2,1]", "data.folds.val=[9]", "data.folds.test=[10]")
    found = json.loads((network / "mean" / "evaluation.json").read_text())

    run = opened(network)
    answers = {}
    for split in ("val", "test"):
        forest_p = member(forest).predict(features_of(run, split), run.data.labels.classes)
        answers[split] = (run.evaluate(split, "fp32").p + forest_p) / 2
    y = run.data.record_labels("test")
    has_both = (y.min(axis=0) == 0) & (y.max(axis=0) == 1)
    expected = np.mean([roc_auc_score(y[:, k], answers["test"][:, k]) for k in np.flatnonzero(has_both)])
    assert found["metrics"]["macro_auroc"] == pytest.approx(expected)
    assert [part["weight"] for part in found["mean"]] == [0.25, 0.5, 0.25]
    assert [part.get("sha256") for part in found["mean"]][1] == member(forest).sha256

    # The table has the mean, and the same calibrated by what was fitted to the mean of the other split.
    table = pd.read_parquet(network / "mean" / "predictions.parquet")
    p = table.filter(like="_probability").to_numpy()
    np.testing.assert_allclose(p, answers["test"], atol=1e-6)
    assert table["ecg_id"].tolist() == run.data.table("test")["ecg_id"].tolist()
    if found["calibration"]["method"] == "temperature":
        temperature = found["calibration"]["learned"]["temperature"]
        calibrated = 1 / (1 + (1 / answers["test"] - 1) ** (1 / temperature))
        np.testing.assert_allclose(table.filter(like="_calibrated").to_numpy(), calibrated, atol=1e-5)
    # Nothing of the run itself changes.
    assert not (network / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("mean_with=[nowhere]",), "mean_with=nowhere: neither a run nor a bundle"),
        (("weights=[1,2]",), "weights=[1.0, 2.0]: has no effect without mean_with"),
        (("mean_with=[forest]", "weights=[1]"), "weights=[1.0]: 1 weights for 2 models; expected one for the run"),
        (("mean_with=[forest]", "weights=[1,0]"), "weights=[1.0, 0.0]: expected numbers above 0"),
        (("mean_with=[forest]", "laplace=true"), "laplace=true: integrates the weights of one network"),
        (("mean_with=[other]",), "of the records of val, such as ecg_id"),
    ],
)
def test_a_mean_that_cannot_be_evaluated_is_refused(
    train: Train,
    forest: Path,
    network: Path,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    overrides: tuple[str, ...],
    words: str,
) -> None:
    if "mean_with=[other]" in overrides:
        folds = ("data.folds.train=[8,9]", "data.folds.val=[7]")
        train(*FOREST, *folds, "tracking.artifacts=false", f"hydra.run.dir={workplace}/members/other")
    monkeypatch.chdir(workplace / "members")
    with pytest.raises(SystemExit) as exit_:
        evaluate(*overrides)
    assert words in sentence(exit_.value, capsys)


FOLDS = ("data.folds.val=[9]", "data.folds.test=[10]")


def test_a_mean_with_gradient_boosting_has_a_bundle_that_answers_as_it_was_evaluated(
    train: Train,
    boosting: Path,
    forest: Path,
    network: Path,
    corpus: Path,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(workplace / "members")
    evaluate(f"mean_with=[{boosting}]", "weights=[1,3]", *FOLDS)
    assert "predict network/mean " in " ".join(capsys.readouterr().out.split())
    folder = find_bundle(network / "mean")
    bundle = read_bundle(folder)

    # Before the calibration: the trees are those of scikit-learn, and the network is that of the run.
    run = opened(network)
    signals = run.data.store.signals[run.data.store_rows[run.data.rows["test"]]]
    of_trees = 0.75 * member(boosting).predict(features_of(run, "test"), run.data.labels.classes)
    assert np.ptp(of_trees, axis=0).max() > 0.1
    np.testing.assert_allclose(predict_with_members(bundle, signals), of_trees, rtol=0, atol=1e-12)
    raw = 0.25 * run.evaluate("test", "fp32").p + of_trees
    np.testing.assert_allclose(predict_windows(bundle, signals)[0], raw, rtol=0, atol=1e-6)

    # A file of the split has the calibrated probabilities of the table, with intervals, sets and operating points.
    table = pd.read_parquet(network / "mean" / "predictions.parquet")
    files = [str(corpus / name) for name in run.data.table("test")["filename_lr"]]
    predictor = load_bundle(network / "mean")
    prediction = predictor.predict(files)
    np.testing.assert_allclose(prediction.probabilities, table.filter(like="_calibrated").to_numpy(), rtol=0, atol=2e-6)
    assert prediction.alpha == 0.1 and bundle.points and bundle.familiarity is not None
    assert "in a mean with gradient boosting on ECG measurements (weight 0.75)" in predictor.notice
    metrics = json.loads((network / "mean" / "evaluation.json").read_text())["metrics"]
    assert bundle.provenance["metrics"]["macro_auroc"] == pytest.approx(metrics["macro_auroc"])
    assert [part["weight"] for part in bundle.provenance["mean"]] == [0.25, 0.75]

    # The records of both members are known.
    file = str(corpus / run.data.table("train")["filename_lr"].iloc[0])
    assert predictor.predict([file]).cautions[0][0] == "this record was in the training data"

    # Its network starts a training and teaches, and it is no member of another mean.
    assert read_base(str(folder)).description.startswith("the network of a bundle trained on")
    train(*SHORT, *STUDENT, "trainer.epochs=1", f"task.teacher=[{folder}]", "hydra.run.dir=members/of-a-mean")
    said = " ".join(capsys.readouterr().out.split())
    assert "only the network teaches. The models of ECG measurements in its bundle do not." in said
    monkeypatch.chdir(workplace / "members")
    with pytest.raises(SystemExit) as exit_:
        evaluate(f"mean_with=[{folder}]", *FOLDS)
    assert "is itself the mean of a network and other models" in sentence(exit_.value, capsys)

    # A mean of other members has no bundle, and an older one does not stay.
    evaluate(f"mean_with=[{boosting},{forest}]", *FOLDS)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"There is no bundle: mean_with={forest}: a bundle may hold a network and models of gradient boosting" in said
    )
    assert not folder.exists()


def test_the_ancestry_of_a_mean_has_the_records_of_all_members(
    train: Train, network: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = workplace / "members" / "network-3"
    train(*SHORT, *NETWORK, "data.folds.train=[1,2,3]", f"hydra.run.dir={narrow}")
    other = workplace / "members" / "boosting-4"
    train(*BOOSTING, "data.folds.train=[4]", "tracking.artifacts=false", f"hydra.run.dir={other}")
    monkeypatch.chdir(workplace / "members")
    cli.main(["evaluate", "run=network-3", "resamples=40", f"mean_with=[{other}]", *FOLDS])
    ancestry = read_bundle(narrow / "mean" / "bundle").ancestry
    assert ancestry is not None
    run = opened(network)
    folds = run.data.table("train")["strat_fold"].to_numpy()
    np.testing.assert_array_equal(ancestry.in_training(run.data.digests("train")), folds <= 4)
    assert ancestry.in_fitting(run.data.digests("val")).all()
