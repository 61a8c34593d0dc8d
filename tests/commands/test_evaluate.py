"""`einthoven evaluate`: a finished run judged on records that nothing was fitted on."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from einthoven import cli
from einthoven.errors import UserError
from einthoven.evaluation.metrics import macro_auroc
from einthoven.evaluation.scores import log_loss_per_class
from einthoven.predict import load_bundle
from einthoven.runs.network.finished import read_finished
from einthoven.tracking.server import client
from einthoven.training import checkpoint

Train = Callable[..., None]
FOLDS = ("data.folds.train=[2,3,4]", "data.folds.val=[5,6,7]", "data.folds.test=[1,8,9,10]")


@pytest.fixture
def run(train: Train, workplace: Path) -> Path:
    """The folder of a run, trained once."""
    folder = workplace / "evaluate" / "run"
    if not folder.exists():
        own = ("tracking.experiment=evaluated", f"hydra.run.dir={folder}")
        train(*FOLDS, "model=logistic", "augment=none", "trainer.epochs=2", *own)
    return folder


def evaluate(folder: Path, *overrides: str) -> dict[str, Any]:
    cli.main(["evaluate", f"run={folder}", "resamples=40", *overrides])
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return found


@dataclass(frozen=True)
class Evaluations:
    """Two evaluations of the run: as they are by default, and without calibration."""

    default: dict[str, Any]
    shown: str
    """What the first one printed."""
    card: str
    """The model card of the first one."""
    uncalibrated: dict[str, Any]
    bundles: tuple[dict[str, Any], dict[str, Any]]
    """The description of the bundle at the end of the training, and after the first evaluation."""


@pytest.fixture(scope="module")
def made() -> list[Evaluations]:
    """What `evaluations` has made: nothing at first."""
    return []


@pytest.fixture
def evaluations(
    made: list[Evaluations],
    run: Path,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Evaluations:
    """Both are made once: an evaluation draws figures and resamples, which takes a second."""
    monkeypatch.chdir(workplace)
    if not made:
        capfd.readouterr()
        trained = json.loads((run / "bundle" / "bundle.json").read_text())
        default = evaluate(run, f"against={run}")
        evaluated = json.loads((run / "bundle" / "bundle.json").read_text())
        shown = capfd.readouterr().out
        card = (run / "model_card.md").read_text()
        uncalibrated = evaluate(run, "calibration=none", "interval=bca")
        made.append(Evaluations(default, shown, card, uncalibrated, (trained, evaluated)))
    return made[0]


def test_the_end_of_a_training_calibrates_the_bundle_as_an_evaluation_does(evaluations: Evaluations) -> None:
    trained, evaluated = evaluations.bundles
    assert trained["calibration"]["method"] == "temperature" and trained["provenance"]["folds"]["fit"] == [5, 6, 7]
    for name in ("calibration", "operating_points", "conformal", "band"):
        assert trained[name] == evaluated[name], name
    metrics = {name: value for name, value in evaluated["provenance"]["metrics"].items() if "auroc_" not in name}
    assert trained["provenance"]["metrics"] | metrics == pytest.approx(trained["provenance"]["metrics"])


def test_without_test_records_nothing_is_fitted_to_the_validation_records(
    train: Train, workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / "evaluate" / "validated"
    quick = ("model=logistic", "trainer.epochs=1", "diagnostics=none", "tracking.artifacts=false")
    train(*FOLDS[:2], "data.folds.test=[]", *quick, f"hydra.run.dir={folder}")
    assert "Its probabilities are not calibrated" in capfd.readouterr().out
    bundle = load_bundle(folder).bundles[0]
    assert bundle.calibration_method == "none" and not bundle.conformal and bundle.band is None


def test_a_run_is_evaluated_and_written_to_the_same_mlflow_run(
    run: Path, evaluations: Evaluations, workplace: Path
) -> None:
    found, shown, again = evaluations.default, evaluations.shown, evaluations.uncalibrated
    assert "macro AUROC" in shown and "Operating points" in shown and "(small)" in shown
    assert found["folds"] == {"train": [2, 3, 4], "fit": [5, 6, 7], "report": [1, 8, 9, 10]}
    assert found["calibration"]["method"] == "temperature" and found["calibration"]["learned"]["temperature"] > 0
    # As at the end of a training, unless BCa is asked for.
    assert (found["interval"]["method"], again["interval"]["method"]) == ("percentile", "bca")
    same = found["differences"]["macro AUROC: run less against"]
    assert (same["difference"], same["p"]) == (0, 1)
    assert set(found["differences"]) == {"macro AUROC: run less against"}  # a record is one window
    tracker = client(f"sqlite:///{workplace}/mlflow.db")
    (tracked,) = tracker.search_runs([tracker.get_experiment_by_name("evaluated").experiment_id])
    assert tracked.info.status == "FINISHED"
    metrics = tracked.data.metrics
    # The same records as at the end of the training: the same figure.
    assert metrics["test/evaluate/macro_auroc"] == pytest.approx(metrics["test/macro_auroc"], abs=1e-9)
    assert metrics["test/evaluate/nll_before"] == pytest.approx(metrics["test/loss"], abs=1e-6)
    assert again["metrics"]["nll/after"] == pytest.approx(metrics["test/evaluate/nll_after"])
    figures = {f.path for f in tracker.list_artifacts(tracked.info.run_id, "figures")}
    assert {"figures/reliability.png", "figures/decision_curves.png", "figures/risk_coverage.png"} <= figures
    result = read_finished(run, "run", {})[0].evaluate("test", "fp32")
    told, temperature = found["metrics"], found["calibration"]["learned"]["temperature"]
    p = 1 / (1 + (1 / result.p - 1) ** (1 / temperature))
    assert told["abstention/risk_100"] == pytest.approx(((p >= 0.5) != result.y).mean(), abs=1e-6)
    assert {"abstention/risk_50", "conformal/missed_10", "conformal/size_20"} <= set(told)
    assert "a threshold for each class" in shown and "conformal/coverage/NORM" in told
    assert metrics["test/evaluate/conformal_least_coverage_own"] == told["conformal/least_coverage_own"]
    assert not any("coverage_own_NORM" in name for name in metrics)
    assert "evaluation/model_card.md" in {f.path for f in tracker.list_artifacts(tracked.info.run_id, "evaluation")}
    assert again["metrics"]["nll/after"] == again["metrics"]["nll/before"]
    history = tracker.get_metric_history(tracked.info.run_id, "test/evaluate/nll_after")
    expected = [found["metrics"]["nll/after"], again["metrics"]["nll/after"]]
    assert [m.value for m in history] == pytest.approx(expected)


def test_the_model_card_says_what_was_found(run: Path, evaluations: Evaluations) -> None:
    found, card = evaluations.default, evaluations.card
    assert "not for diagnosis" in card
    macro, interval = found["metrics"]["macro_auroc"], found["macro_auroc"]
    assert f"| macro AUROC | {macro:.3f} ({interval['low']:.3f}-{interval['high']:.3f}) |" in card
    assert f"| {found['metrics']['nll/before']:.4f} | {found['metrics']['nll/after']:.4f} |" in card
    again, _ = read_finished(run, "run", {})
    labels, patients = again.data.record_labels("test"), again.data.patients("test")
    line = next(line for line in card.splitlines() if line.startswith("| report the metrics below"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:4] == [str(len(labels)), str(len(set(patients.tolist())))]
    assert cells[6:] == [str(n) for n in labels.sum(axis=0)]
    assert again.data.table("test")["age"].median() == pytest.approx(float(cells[4].split()[0]), abs=0.5)
    for point in (of["youden"] for of in found["operating_points"].values()):
        assert f"| youden | {point['threshold']:.3f} | {point['judged']['sensitivity']:.2f}" in card


def test_a_damaged_checkpoint_is_replaced_by_the_one_before_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    checkpoints = folder / "checkpoints"
    assert sorted(file.name for file in checkpoints.iterdir()) == [
        "best.safetensors", "last.safetensors", "previous.safetensors"
    ]  # fmt: skip
    _flip(checkpoints / "last.safetensors", -50)
    found, _ = read_finished(folder, "run", {})
    assert found.position.epoch == 1
    expected = checkpoint.load(checkpoints / "previous.safetensors")[0]["model"]
    assert all(torch.equal(value, expected[name]) for name, value in found.model.state_dict().items())
    shown = capfd.readouterr().err
    assert shown.count("\n") == 1 and "last.safetensors is damaged" in shown and "is used instead" in shown
    _flip(checkpoints / "previous.safetensors", 200)
    with pytest.raises(SystemExit) as ended:
        evaluate(folder)
    assert ended.value.code == 2
    shown = capfd.readouterr().err
    assert shown.count("\n") == 1 and "of no use either" in shown


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda state, meta: state["model"].popitem(), "Missing key"),
        (lambda state, meta: state["model"].update({"network.linear.bias": torch.ones(10**6)}), "size mismatch"),
        (lambda state, meta: [value.fill_(math.nan) for value in state["model"].values()], "not finite"),
        (lambda state, meta: state.pop("model"), "KeyError"),
        (lambda state, meta: meta.pop("recorder"), "KeyError"),
        (lambda state, meta: meta["position"].update(epoch=-(10**9)), "epoch is -1000000000"),
        (lambda state, meta: meta["position"].update(colour=1), "colour"),
        (lambda state, meta: meta.update(classes=3), "TypeError"),
    ],
)
def test_a_checkpoint_of_other_content_is_refused_in_a_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[..., object], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("tracking", "previous.safetensors"))
    state, meta = checkpoint.load(folder / "checkpoints" / "last.safetensors")
    change(state, meta)
    checkpoint.save(folder / "checkpoints" / "last.safetensors", state, meta)
    with pytest.raises(UserError, match=expected) as refusal:
        read_finished(folder, "run", {})
    assert "\n" not in str(refusal.value) and "checkpoints" in str(refusal.value)


def _flip(file: Path, byte: int) -> None:
    data = bytearray(file.read_bytes())
    data[byte] ^= 4
    file.write_bytes(data)


@pytest.mark.usefixtures("no_pictures")
def test_max_of_windows_is_compared_with_their_mean(
    train: Train, workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / "evaluate" / "windows"
    train(*FOLDS, "model=logistic", "augment=none", "trainer.epochs=1", "trainer.window=5", f"hydra.run.dir={folder}")
    monkeypatch.chdir(workplace)
    found = evaluate(folder, "calibration=isotonic")
    run, _ = read_finished(folder, "run", {})
    mean, most = (run.evaluate("test", "fp32", aggregate=kind) for kind in ("mean", "max"))
    assert (most.p >= mean.p).all() and not np.allclose(most.p, mean.p)
    for name, metric in (
        ("macro AUROC", macro_auroc),
        ("negative log-likelihood", lambda y, p: log_loss_per_class(y, p).mean()),
    ):
        difference = found["differences"][f"{name}: max less mean of windows"]["difference"]
        assert difference == pytest.approx(metric(mean.y, most.p) - metric(mean.y, mean.p), abs=1e-6)
    # Isotonic curves have too few records here: the patients that were held out are answered worse.
    assert found["calibration"]["method"] == "uncalibrated" and found["calibration"]["not_used"] == "isotonic"
    judged = found["calibration"]["cross_validation"]
    assert judged["after"] > judged["before"] and found["calibration"]["learned"] == {}
    assert found["metrics"]["nll/after"] == found["metrics"]["nll/before"]
    sentence = "calibration=isotonic is not used, and the probabilities are those of the model: by 5-fold"
    assert any(warning.startswith(sentence) for warning in found["warnings"])
    assert sentence.capitalize() in (folder / "model_card.md").read_text()
    assert "Method: uncalibrated" in (folder / "model_card.md").read_text()
    told = capfd.readouterr()
    assert sentence in " ".join(told.err.split()) and "no calibration is used" in " ".join(told.out.split())
    assert load_bundle(folder).bundles[0].calibration_method == "none"
    learned = evaluate(folder, "calibration=vector")["calibration"]["learned"]
    assert len(learned["slope"]) == len(learned["offset"]) == mean.y.shape[1]
    assert load_bundle(folder).bundles[0].calibration_method == "vector"


def test_subgroups_are_of_the_records_of_their_rows(run: Path, evaluations: Evaluations) -> None:
    found = evaluations.uncalibrated
    again, _ = read_finished(run, "run", {})
    result, table = again.evaluate("test", "fp32"), again.data.table("test")
    assert table["ecg_id"].tolist() == again.data.labels.ecg_ids[again.data.rows["test"]].tolist()
    assert {group["value"] for group in found["subgroups"]} == {"40 to 59", "60 to 79"}
    for group in found["subgroups"]:
        low, high = (int(age) for age in group["value"].split(" to "))
        members = table["age"].between(low, high).to_numpy()
        assert group["attribute"] == "age" and group["records"] == members.sum() > 0
        assert group["gap"] == pytest.approx((result.p - result.y)[members].mean(axis=0), abs=1e-6)


def test_thresholds_are_those_of_the_fitting_folds(
    run: Path, evaluations: Evaluations, request: pytest.FixtureRequest
) -> None:
    points = evaluations.uncalibrated["operating_points"]
    assert points
    for of in points.values():
        assert of["sensitivity=0.9"]["chosen"]["sensitivity"] >= 0.9
        assert of["specificity=0.9"]["chosen"]["specificity"] >= 0.9
    request.getfixturevalue("no_pictures")  # now that the evaluations above have theirs
    swapped = evaluate(run, "calibration=none", "fit=test", "report=val")
    assert swapped["folds"]["report"] == [5, 6, 7]
    assert not np.isclose(swapped["metrics"]["loss"], evaluations.uncalibrated["metrics"]["loss"])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["fit=test"], "fit=test report=test: expected val and test, one each"),
        (["fit=train"], "fit=train report=test: expected"),
        (["report=train"], "fit=val report=train: expected"),
        (["data.folds.test=[4]"], "fold 4 is in both train and test"),
        (["data.folds.test=[5]"], "fold 5 is in both val and test"),
        (["data.folds.test=[]"], "data.folds.test: no labelled record"),
        (["calibration=temprature"], "did you mean temperature"),
        (["calibration=prior_shift"], "calibration.prevalence names no class"),
        (["calibration=prior_shift", "+calibration.prevalence.XYZ=0.1"], "prevalence.XYZ: no such class"),
        (["level=95"], "level=95.0: expected a coverage"),
        (["interval=normal"], "interval=normal: expected percentile or bca"),
        (["resamples=0"], "resamples=0"),
        (["against=nowhere"], "against=nowhere: no checkpoints/last.safetensors there"),
        (["run=nowhere"], "run=nowhere: no checkpoints/last.safetensors there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(
    run: Path,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    overrides: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(workplace)
    named = [] if overrides[0].startswith("run=") else [f"run={run}"]
    with pytest.raises(SystemExit) as ending:
        cli.main(["evaluate", *named, *overrides])
    err = capfd.readouterr().err.strip()
    assert ending.value.code == 2 and err.startswith("einthoven: error: ") and "\n" not in err
    assert expected in err
