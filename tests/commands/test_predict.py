"""`einthoven predict`: from a trained run to answers for files."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from einthoven import cli
from einthoven.data.formats.reading import read_record
from einthoven.evaluation.calibration import Vector
from einthoven.evaluation.conformal import missed_share
from einthoven.predict import Predictor, load_bundle
from einthoven.predict.answers import answers
from einthoven.predict.delineator import load_delineator
from einthoven.predict.measuring import measure_records, measurements_to_json
from einthoven.runs.network.finished import read_finished
from einthoven.runs.results import conclude
from einthoven.runs.results.bundle import write_bundle
from einthoven.terminal.display import console
from einthoven.terminal.prediction_output import _JsonOutput
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.server import client

FOLDS = ("data.folds.train=[2,3,4]", "data.folds.val=[5,6,7]", "data.folds.test=[1,8,9,10]")
SMALL = ("model=conv_attention", "model.channels=[8,8]", "model.heads=2", "model.window=1.0")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mlflow_db: Path) -> Path:
    """A folder to run in, with a tracking store of its own: another test counts the evaluated runs of the usual one."""
    folder = tmp_path_factory.mktemp("predict")
    shutil.copy(mlflow_db, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def run(place: Path, corpus: Path) -> Path:
    """The folder of a run, trained and evaluated once."""
    folder = place / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(conclude, "pictures", lambda *_: {})
        patch.setattr(Recorder, "figure", lambda *_: None)
        where = ("data=ptbxl", f"data.root={corpus}", f"tracking.uri=sqlite:///{place}/mlflow.db")
        short = ("augment=none", "trainer.epochs=2", "trainer.window=5", f"hydra.run.dir={folder}")
        cli.main(["train", *where, *FOLDS, *SMALL, *short])
        write_bundle(read_finished(folder, "run", {})[0], None, place / "uncalibrated")
        cli.main(["evaluate", f"run={folder}", "resamples=40", "calibration=vector"])
    return folder


def files_of(root: Path, numbers: np.ndarray) -> list[Path]:
    return [root / "records100" / "00000" / f"{number:05d}_lr.hea" for number in numbers]


def outcome(*arguments: object) -> int:
    """Exit code of `einthoven predict`."""
    try:
        cli.main(["predict", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_answers_are_those_of_the_evaluation(run: Path, place: Path, corpus: Path) -> None:
    """Before calibration, and after it, with the calibration fitted anew here."""
    taken, _ = read_finished(run, "run", {})
    plain, calibrated = load_bundle(place / "uncalibrated"), load_bundle(run)
    assert "not calibrated" in plain.notice and "calibration: vector" in calibrated.notice
    fit, report = (taken.evaluate(split, "fp32") for split in ("val", "test"))
    files = files_of(corpus, taken.data.table("test")["ecg_id"].to_numpy())
    assert plain.predict(files).probabilities == pytest.approx(report.p, abs=1e-6)
    method = Vector(calibrated.classes, False).fit(fit.y, fit.p)
    found = calibrated.predict(files)
    assert found.probabilities == pytest.approx(method.transform(report.p), abs=1e-6)
    assert np.abs(found.probabilities - report.p).max() > 1e-3
    bundle, held = calibrated.bundles[0], method.transform(fit.p)
    n = int(fit.y.any(axis=1).sum())
    for alpha, threshold in bundle.conformal.items():  # the bound of the promise, on the records that it rests on
        bound = n / (n + 1) * missed_share(fit.y, held, threshold - 1e-9).mean() + 1 / (n + 1)
        assert bound <= alpha + 1e-9 if threshold else 1 / (n + 1) > alpha
    assert bundle.familiarity is not None and len(bundle.familiarity.held) == len(fit.y)
    assert bundle.provenance["folds"] == {"train": [2, 3, 4], "fit": [5, 6, 7]}
    points = json.loads((run / "evaluation.json").read_text())["operating_points"]
    assert {k: v["youden"]["threshold"] for k, v in bundle.points.items()} == pytest.approx(
        {k: v["youden"]["threshold"] for k, v in points.items()}
    )


def test_every_output_has_measurements_unless_they_are_switched_off(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 250)
    (file,) = files_of(corpus, np.array([1]))
    assert outcome("synthetic", file, "--json") == 0
    (record,) = json.loads(capfd.readouterr().out)["records"]
    (expected,) = measure_records(load_delineator(), [read_record(file)])
    assert record["measurements"] == json.loads(json.dumps(measurements_to_json(expected)))
    qrs = record["measurements"]["qrs"]
    assert 60 < qrs["value"] < 200 and qrs["beats"] > 3 and qrs["unit"] == "ms"

    assert outcome("synthetic", file, "--csv") == 0
    (row,) = csv.DictReader(io.StringIO(capfd.readouterr().out))
    assert float(row["qrs"]) == pytest.approx(qrs["value"], rel=1e-4) and "st_V6" in row

    page = tmp_path / "page.pdf"
    assert outcome("synthetic", file, "--pdf", page) == 0
    shown = capfd.readouterr().out
    assert f"QRS {qrs['value']:.0f} ± " in shown and "Not for clinical use" in shown

    for option, name in (("--json", "clinical"), ("--csv", "qrs"), ("--alpha=0.1", "QRS")):
        assert outcome("synthetic", file, option, "--no-measurements") == 0
        assert name not in capfd.readouterr().out


def test_a_run_of_mlflow_is_found_by_its_address(run: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    expected = load_bundle(run).bundles[0].sha256
    tracker = client(f"sqlite:///{place}/mlflow.db")
    for experiment in tracker.search_experiments():
        for found in tracker.search_runs([experiment.experiment_id]):
            if "test/evaluate/nll_after" in found.data.metrics and found.info.run_name:
                addresses = [f"runs:/{found.info.run_id}"]
                addresses += [f"models:/{output.model_id}" for output in found.outputs.model_outputs]
                if load_bundle(addresses[0]).bundles[0].sha256 == expected:
                    assert len(addresses) > 1
                    assert {load_bundle(address).bundles[0].sha256 for address in addresses} == {expected}
                    return
    pytest.fail("no run of the store has the bundle")


def test_three_broken_files_of_a_hundred_give_97_answers_and_3_reasons(
    run: Path, tmp_path: Path, write_record: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for number in range(100):
        write_record(tmp_path, f"r{number:03d}", np.rint(rng.normal(0, 300, (12, 1000))).astype(np.int16))
    (tmp_path / "r010.dat").write_bytes(b"cut")
    (tmp_path / "r050.hea").write_text("nonsense\n")
    (tmp_path / "r099.dat").unlink()
    assert outcome(run, tmp_path, "--json") == 1
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert len(found["records"]) == 97
    assert [Path(item["file"]).stem for item in found["not_answered"]] == ["r010", "r050", "r099"]
    assert "There is no answer for 3 of 100 files" in err and "r010" in err
    broken = {tmp_path / f"r{number:03d}.hea" for number in (10, 50, 99)}
    expected = load_bundle(run).predict(sorted(set(tmp_path.glob("*.hea")) - broken))
    p = np.array([list(item["probabilities"].values()) for item in found["records"]])
    assert p == pytest.approx(expected.probabilities, abs=1e-6)  # in batches of other sizes
    assert "Not for diagnosis" in found["notice"] and found["models"][0]["folds"]["fit"] == [5, 6, 7]


def test_the_doctor_can_be_left_out(run: Path, tmp_path: Path, write_record: Callable[..., Path]) -> None:
    flat = np.zeros((12, 1000), np.int16)
    files = [write_record(tmp_path, f"flat{number}", flat) for number in range(40)]
    predictor, threads = load_bundle(run), torch.get_num_threads()
    examined, plain = (list(answers(predictor, files, {}, doctor=doctor)) for doctor in (True, False))
    for one, other in zip(examined, plain, strict=True):
        assert one.prediction is not None and other.prediction is not None
        assert any(text.startswith("flat: ") for text in one.prediction.cautions[one.row])
        assert not any(text.startswith("flat: ") for text in other.prediction.cautions[other.row])
        assert one.prediction.probabilities[one.row].tolist() == other.prediction.probabilities[other.row].tolist()
    assert torch.get_num_threads() == threads


def test_every_form_of_output_says_what_the_model_was_trained_on(
    run: Path, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files, notice = files_of(corpus, np.array([1, 2, 3])), load_bundle(run).notice
    assert outcome(run, *files, "--pdf", tmp_path / "pages.pdf") == 0
    out = capfd.readouterr().out
    assert notice in out and "00002_lr.hea" in out
    pdf = (tmp_path / "pages.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page ") == 3
    assert outcome(run, *files, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert [Path(row["file"]) for row in rows] == files and {row["notice"] for row in rows} == {notice}
    found = load_bundle(run).predict(files)
    for k, name in enumerate(load_bundle(run).classes):
        assert [float(row[name]) for row in rows] == pytest.approx(found.probabilities[:, k], abs=1e-6)
        assert [float(row[f"{name}_low"] or "nan") for row in rows] == pytest.approx(
            found.intervals[:, k, 0], abs=1e-6, nan_ok=True
        )


def test_a_table_of_numbers_is_told_its_rate_and_unit_and_shown_as_a_timeline(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    leads = "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6"
    signal = np.random.default_rng(0).normal(0, 0.3, (12, 12500))
    np.save(tmp_path / "long.npy", signal)
    told = ["--fs", "500", "--units", "mV", "--leads", leads, "--csv", "--timeline"]
    assert outcome(run, tmp_path / "long.npy", *told) == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert [float(row["start_s"]) for row in rows] == [0, 10, 15]
    assert all("no_ecg" in row["cautions"] for row in rows)
    assert outcome(run, tmp_path / "long.npy") == 1
    assert "long.npy" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["RUN"], "no FILE given"),
        (["RUN", "CORPUS", "--alpha", "0.3"], "--alpha 0.3: this bundle has thresholds for 0.05, 0.1, 0.2"),
        (["RUN", "nowhere/*.hea"], "this pattern holds no record"),
        (["RUN", "CORPUS", "--json", "--csv"], "not allowed with"),
        (["RUN", "CORPUS", "--colour"], "predict: --colour: unknown; did you mean"),
        (["RUN", "CORPUS", "--pdf", "."], "--pdf .: expected the name of a file"),
        (["RUN", "CORPUS", "--pdf", "nowhere/a.pdf"], "--pdf nowhere/a.pdf: expected the name of a file, in a folder"),
        (["runs:/nothing", "CORPUS"], "runs:/nothing"),
    ],
)
def test_a_mistake_is_one_sentence(
    run: Path,
    corpus: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(place)
    named = {"RUN": str(run), "CORPUS": str(corpus)}
    capfd.readouterr()
    assert outcome(*(named.get(a, a) for a in arguments)) == 2
    err = capfd.readouterr().err.strip()
    assert err.startswith("einthoven: error: ") and "\n" not in err and expected in err


def test_a_bundle_does_not_tell_another_hash_than_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    own = load_bundle("synthetic").bundles[0]
    lying = replace(own, provenance={**own.provenance, "sha256": "another"})
    with _JsonOutput(Predictor([lying]), None, False):
        pass
    (model,) = json.loads(capfd.readouterr().out)["models"]
    assert model["sha256"] == own.sha256
