"""Runs that learn statements and report classes: what they predict, and what their bundle, their teacher's part and
their evaluation on other label sets do."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from einthoven import cli
from einthoven.errors import UserError
from einthoven.predict.bundle import read_bundle
from einthoven.predict.export import export, load_program
from einthoven.predict.forward import predict_windows
from einthoven.predict.log_odds import LogOdds
from einthoven.runs.config.run_config import read_config
from einthoven.runs.data import records
from einthoven.runs.evaluation.laplace import LaplaceRun
from einthoven.runs.folds.training_margins import LOG_ODDS, TRAINING_LOG_ODDS
from einthoven.runs.network.finished import read_finished
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.start import assemble_run

Train = Callable[..., None]

FOLDS = ("data.folds.train=[2,3,4,5]", "data.folds.val=[6,7]", "data.folds.test=[1,8,9,10]")
SMALL = ("model=mlp", "model.width=8", "model.depth=1", "optimizer.lr=1e-3", "trainer.epochs=1")
SHORT = (*FOLDS, *SMALL, "augment=none", "diagnostics=none", "trainer.batch_size=8", "tracking.artifacts=false")
SUPERCLASSES = ("CD", "HYP", "MI", "NORM", "STTC")


@pytest.fixture
def trained(train: Train, workplace: Path) -> Callable[..., Path]:
    """The folder of a run of this name; it is trained once."""

    def folder_of(name: str, *overrides: str) -> Path:
        folder = workplace / "targets" / name
        if not folder.exists():
            train(*SHORT, "tracking.experiment=targets", *overrides, f"hydra.run.dir={folder}")
        return folder

    return folder_of


@pytest.fixture
def run(trained: Callable[..., Path]) -> Path:
    """A run that learns all statements and reports the five superclasses."""
    return trained("read", "task=superdiagnostic", "task.targets=all")


@pytest.fixture
def run_of_all(trained: Callable[..., Path]) -> Path:
    """A run of all statements."""
    return trained("all", "task=all")


def signals(run: NetworkParts, split: str) -> NDArray[np.int16]:
    """The signals of a split in µV."""
    return np.asarray(run.data.store.signals[run.data.store_rows[run.data.rows[split]]])


def read_by_hand(run: NetworkParts, split: str) -> NDArray[np.float64]:
    """The probabilities of the classes, by the definition and without logarithms."""
    targets = run.data.targets
    assert targets is not None
    with torch.no_grad():
        x = torch.from_numpy(signals(run, split)).float() * 1e-3
        p = run.model.eval()(x).double().sigmoid().numpy()
    columns = [[targets.names.index(name) for name in names] for names in targets.members]
    return np.stack([1 - np.prod(1 - p[:, members], axis=1) for members in columns], axis=1)


def test_it_reports_the_records_and_classes_of_the_plain_task(run: Path, trained: Callable[..., Path]) -> None:
    learned, notes = read_finished(run, "run", {})
    plain, _ = read_finished(trained("plain", "task=superdiagnostic"), "run", {})
    assert learned.data.labels.classes == plain.data.labels.classes == SUPERCLASSES
    assert len(notes["outputs"]) == 9 and notes["classes"] == list(SUPERCLASSES)
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(learned.data.rows[split], plain.data.rows[split])
    found, expected = learned.evaluate("test", "fp32"), plain.evaluate("test", "fp32")
    np.testing.assert_array_equal(found.y, expected.y)
    np.testing.assert_allclose(found.p, read_by_hand(learned, "test"), atol=1e-6)
    assert found.p.std(axis=0).min() > 1e-4


def test_the_margins_of_a_cross_validation_are_those_of_the_classes(trained: Callable[..., Path]) -> None:
    folds = ("folds=cv", "data.folds.train=[2,3]", "data.folds.val=[]", "data.folds.test=[]")
    folder = trained("folds", "task=superdiagnostic", "task.targets=all", "diagnostics.log_odds=true", *folds)
    margins = pd.read_parquet(folder / TRAINING_LOG_ODDS).set_index("record_id")
    assert list(margins) == [f"{name}{LOG_ODDS}" for name in SUPERCLASSES]
    assert len(margins) and np.isfinite(margins).all(axis=None)


def test_its_bundle_answers_with_the_classes(run: Path, tmp_path: Path) -> None:
    trained_run, _ = read_finished(run, "run", {})
    bundle = read_bundle(run / "bundle")
    assert bundle.classes == SUPERCLASSES and "superdiagnostic read from all" in bundle.notice
    by_hand = read_by_hand(trained_run, "test")
    microvolts = signals(trained_run, "test")
    np.testing.assert_allclose(predict_windows(bundle, microvolts)[0], by_hand, atol=1e-6)

    # Explanations are of the log-odds of the classes, and both exports give their probabilities.
    x = torch.from_numpy(microvolts).float() * 1e-3
    with torch.no_grad():
        log_odds = LogOdds.from_bundle(bundle)(x).numpy()
    np.testing.assert_allclose(log_odds, np.log(by_hand / (1 - by_hand)), atol=1e-4)
    export(bundle, tmp_path / "model.pt2")
    np.testing.assert_allclose(load_program(tmp_path / "model.pt2")(x).detach().numpy(), by_hand, atol=1e-6)
    if find_spec("onnxruntime") is not None and find_spec("onnxscript") is not None:
        from onnxruntime import InferenceSession

        export(bundle, tmp_path / "model.onnx")
        (found,) = InferenceSession(tmp_path / "model.onnx").run(None, {"signal": x.numpy()})
        np.testing.assert_allclose(found, by_hand, atol=1e-6)


@pytest.mark.usefixtures("no_pictures")
def test_its_evaluation_is_about_the_classes(run: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    cli.main(["evaluate", f"run={run}", "resamples=40"])
    found = json.loads((run / "evaluation.json").read_text())
    assert list(found["auroc"]) == list(SUPERCLASSES)
    bundle = read_bundle(run / "bundle")
    assert bundle.band is not None and bundle.band.shape == (5, 2, 2)
    assert bundle.familiarity is not None and set(bundle.points) <= set(SUPERCLASSES)
    run_again, _ = read_finished(run, "run", {})
    with pytest.raises(UserError, match=r"laplace=true: .* statements of task.targets=all"):
        LaplaceRun(run_again)


@pytest.mark.usefixtures("no_pictures")
def test_a_run_of_all_statements_is_evaluated_on_the_superclasses(
    run_of_all: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (run_of_all / "bundle" / "bundle.json").read_bytes()
    monkeypatch.chdir(workplace)
    cli.main(["evaluate", f"run={run_of_all}", "labels=superdiagnostic", "resamples=40", "calibration=none"])

    # It has a folder of its own, with a bundle that reads the five classes.
    place = run_of_all / "readings" / "superdiagnostic"
    assert list(json.loads((place / "evaluation.json").read_text())["auroc"]) == list(SUPERCLASSES)
    assert (run_of_all / "bundle" / "bundle.json").read_bytes() == before
    assert not (run_of_all / "evaluation.json").exists()
    reading, _ = read_finished(run_of_all, "run", {}, "superdiagnostic")
    by_hand = read_by_hand(reading, "test")
    np.testing.assert_allclose(
        predict_windows(read_bundle(place / "bundle"), signals(reading, "test"))[0], by_hand, atol=1e-6
    )

    # Its probabilities are those of the statements of the same weights.
    own, _ = read_finished(run_of_all, "run", {})
    statements = own.evaluate("test", "fp32").p
    rows = np.isin(
        own.data.labels.ecg_ids[own.data.rows["test"]], reading.data.labels.ecg_ids[reading.data.rows["test"]]
    )
    names = own.data.labels.classes
    infarction = statements[rows][:, [names.index("ASMI"), names.index("IMI")]]
    np.testing.assert_allclose(by_hand[:, 2], 1 - np.prod(1 - infarction, axis=1), atol=1e-6)


def test_a_label_set_that_cannot_be_read_is_refused(run: Path, run_of_all: Path) -> None:
    with pytest.raises(UserError, match=r"task.labels=dx: these data have all, .*superdiagnostic"):
        read_finished(run_of_all, "run", {}, "dx")
    # A run that reads superclasses can also be read as subclasses: its network has learned all statements.
    reading, _ = read_finished(run, "run", {}, "subdiagnostic")
    assert "AMI" in reading.data.labels.classes and len(reading.data.output_names) == 9


def test_a_source_that_does_not_know_the_statements_of_a_class_is_refused() -> None:
    # As the source in docs/own_parts.md: it has labels, and no method class_of.
    source = SimpleNamespace(label_sets=("columns", "all"))
    with pytest.raises(UserError, match=r"task.targets=all: the source SimpleNamespace .* a method class_of"):
        records._read_targets(source, None, None, SimpleNamespace(targets="all"))  # type: ignore[arg-type]


def test_a_run_starts_from_the_outputs_of_its_base(run_of_all: Path, trained: Callable[..., Path]) -> None:
    config = read_config(trained("read", "task=superdiagnostic", "task.targets=all"), "run")
    config.init_from = str(run_of_all)
    config.data.folds.val = config.data.folds.test = []
    started = assemble_run(config, run_of_all.parent / "unused")
    base, _ = read_finished(run_of_all, "run", {})
    for name, value in base.model.network.state_dict().items():
        assert torch.equal(value, started.model.network.state_dict()[name]), name


def test_a_student_learns_the_classes_of_such_a_teacher(run: Path, train: Train, workplace: Path) -> None:
    folder = workplace / "targets" / "student"
    train(
        *SHORT, "task=distill", f"task.teacher=[{run}]", "task.targets=all", "task.label_weight=0.5",
        "tracking.experiment=targets", f"hydra.run.dir={folder}",
    )  # fmt: skip
    student, _ = read_finished(folder, "run", {})
    assert student.data.labels.classes == SUPERCLASSES
    np.testing.assert_allclose(student.evaluate("test", "fp32").p, read_by_hand(student, "test"), atol=1e-6)


@pytest.mark.parametrize("command", [["train", "model=naive_bayes", "tracking.offline=true"], ["probe", "run=nowhere"]])
def test_models_without_a_head_of_statements_refuse_them(
    command: list[str],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main([*command, "data=ptbxl", f"data.root={corpus}", "task.targets=all"])
    assert "task.targets=all: " in capsys.readouterr().err
