"""The recipes of published corpora on small made files in their layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import composing
from einthoven.build import build
from einthoven.data.sources.folder import Folder
from einthoven.data.sources.record_paths import fill_pattern, pattern_columns
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.runs.config.settings import source_options

CLASSES = ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")
EXAMS = {590673: 4000, 7: 2800, 1169160: 4000, 42: 4000, 99: 2800, 100: 4000}


def source(name: str, root: Path, cache: Path, *overrides: str) -> Folder:
    config = composing.composed("train", f"data={name}", f"data.root={root}", f"data.cache={cache}", *overrides)
    made = build(source_options(config), "data")
    assert isinstance(made, Folder)
    return made


@pytest.fixture
def code15(tmp_path: Path) -> tuple[Path, dict[int, np.ndarray]]:
    """Two parts of three exams, padded to 4,096 samples as published."""
    rng = np.random.default_rng(0)
    root = tmp_path / "code15"
    root.mkdir()
    lines = [
        "exam_id,age,is_male,nn_predicted_age,1dAVb,RBBB,LBBB,SB,ST,AF,patient_id,death,timey,normal_ecg,trace_file"
    ]
    signals = {}
    for part, exams in enumerate((list(EXAMS)[:3], list(EXAMS)[3:])):
        tracings = np.zeros((3, 4096, 12), np.float32)
        for row, exam in enumerate(exams):
            samples = EXAMS[exam]
            start = (4096 - samples) // 2
            signals[exam] = rng.normal(0, 0.3, (samples, 12)).astype(np.float32)
            tracings[row, start : start + samples] = signals[exam]
            flags = ",".join("True" if k == exam % 6 else "False" for k in range(6))
            lines.append(f"{exam},{30 + row},True,31.2,{flags},{exam % 4},False,1.5,False,exams_part{part}.hdf5")
        with h5py.File(root / f"exams_part{part}.hdf5", "w") as file:
            file["tracings"] = tracings
            file["exam_id"] = np.array(exams)
    (root / "exams.csv").write_text("\n".join(lines) + "\n")
    return root, signals


def test_code15(tmp_path: Path, code15: tuple[Path, dict[int, np.ndarray]]) -> None:
    root, signals = code15
    made = source("code15", root, tmp_path / "cache", "data.fs=400")
    store = made.open()
    assert store.signals.shape == (6, 12, 4000)
    for row, exam in enumerate(EXAMS):
        expected = np.rint(signals[exam].T.astype(np.float64) * 1000)
        np.testing.assert_array_equal(store.signals[row][:, : expected.shape[1]], expected)
        assert not store.signals[row][:, expected.shape[1] :].any()
    labels = made.labels(store.table, "columns", keep_unlabelled=True)
    for row, exam in enumerate(EXAMS):
        expected_class = CLASSES[exam % 6]
        assert [name for name, is_set in zip(labels.classes, labels.matrix[row], strict=True) if is_set] == [
            expected_class
        ]
    assert store.table["age"].tolist() == [30, 31, 32, 30, 31, 32]
    assert store.table.groupby("patient_id")["strat_fold"].nunique().max() == 1


def test_code15_notices_a_changed_part(tmp_path: Path, code15: tuple[Path, dict[int, np.ndarray]]) -> None:
    root, _ = code15
    made = source("code15", root, tmp_path / "cache", "data.fs=400")
    before = np.array(made.open().signals)
    with h5py.File(root / "exams_part1.hdf5", "r+") as file:
        file["tracings"][1] *= 2
    after = np.array(made.open().signals)
    changed = (before != after).any(axis=(1, 2))
    assert changed.tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize("damage", ["part", "exam", "flag"])
def test_code15_that_lacks_something(tmp_path: Path, code15: tuple[Path, dict[int, np.ndarray]], damage: str) -> None:
    root, _ = code15
    table = root / "exams.csv"
    if damage == "part":
        (root / "exams_part1.hdf5").unlink()
        sentence = r"exams\.csv: exams_part1\.hdf5/42 is not in .* \(missing files: 3 of 6\)"
    elif damage == "exam":
        table.write_text(table.read_text().replace("\n42,", "\n43,"))
        sentence = r"exams_part1\.hdf5/43: no record of this exam_id"
    else:
        table.write_text(table.read_text().replace("True,False,False", ",False,False", 1))
        sentence = "expected 0 or 1"
    with pytest.raises(UserError, match=sentence):
        source("code15", root, tmp_path / "cache", "data.fs=400").open()


STATEMENTS = [
    ("Sinus rhythm", "Normal ECG"),
    ("Atrial fibrillation", "Left axis deviation", "Abnormal ECG"),
    ("Sinus rhythm", "Possible inferior infarct; age undetermined"),
    (),
]


@pytest.fixture
def mimic(tmp_path: Path, write_record: Callable[..., Path]) -> tuple[Path, list[np.ndarray]]:
    root = tmp_path / "mimic"
    names = ["subject_id", "study_id", "cart_id", "ecg_time", *(f"report_{k}" for k in range(18)), "rr_interval"]
    lines = [",".join(names)]
    signals = []
    # The records of MIMIC-IV-ECG have aVF before aVL, and 200 counts per mV.
    order = ("I", "II", "III", "aVR", "aVF", "aVL", *LEADS[6:])
    for row, statements in enumerate(STATEMENTS):
        subject, study = 10000032 + 10_000 * (row // 2), 40689238 + row
        folder = root / "files" / f"p{str(subject)[:4]}" / f"p{subject}" / f"s{study}"
        folder.mkdir(parents=True)
        counts = np.random.default_rng(row).integers(-300, 300, (12, 5000))
        write_record(folder, str(study), counts, 500, leads=order, gain="200.0(0)/mV")
        signals.append(counts[[order.index(lead) for lead in LEADS]] * 5)
        cells = [*statements, *[""] * (18 - len(statements))]
        lines.append(",".join([str(subject), str(study), "6848296", "2180-07-23 08:44:00", *cells, "659"]))
    (root / "machine_measurements.csv").write_text("\n".join(lines) + "\n")
    return root, signals


def test_mimic_iv_ecg(tmp_path: Path, mimic: tuple[Path, list[np.ndarray]]) -> None:
    root, signals = mimic
    made = source("mimic_iv_ecg", root, tmp_path / "cache", "data.fs=500")
    store = made.open()
    for row, expected in enumerate(signals):
        np.testing.assert_array_equal(store.signals[row], expected)
    labels = made.labels(store.table, "columns", keep_unlabelled=True)
    for row, statements in enumerate(STATEMENTS):
        found = {name for name, is_set in zip(labels.classes, labels.matrix[row], strict=True) if is_set}
        assert found == set(statements)
    assert store.table["patient_id"].nunique() == 2


def test_some_classes_of_mimic_iv_ecg(tmp_path: Path, mimic: tuple[Path, list[np.ndarray]]) -> None:
    root, _ = mimic
    wanted = "data.only_classes=[Sinus rhythm,Atrial fibrillation]"
    made = source("mimic_iv_ecg", root, tmp_path / "cache", "data.fs=500", wanted)
    labels = made.labels(made.open().table, "columns", keep_unlabelled=True)
    assert labels.classes == ("Atrial fibrillation", "Sinus rhythm")
    assert labels.matrix.tolist() == [[0, 1], [1, 0], [0, 1], [0, 0]]
    with pytest.raises(
        UserError, match=r"data\.only_classes: no row of machine_measurements\.csv has the class 'sinus rhythm'"
    ):
        source("mimic_iv_ecg", root, tmp_path / "cache", "data.only_classes=[sinus rhythm]").open()


@pytest.mark.parametrize("pattern", ["{}", "{a", "{a.b}", "{a[0]}", "{a!r}", "{a:>30}", "{a:.x}", "{0.__class__}"])
def test_patterns_that_cannot_be_read(pattern: str) -> None:
    with pytest.raises(UserError, match="expected a column, or a pattern of columns"):
        pattern_columns(pattern)


def test_patterns() -> None:
    import pandas as pd

    rows = pd.DataFrame({"a": ["12345", " 6 "], "b": ["x", "y"]})
    assert pattern_columns("{a:.2}/{b}") == ("a", "b") and pattern_columns("a b") == ("a b",)
    assert fill_pattern("p{a:.2}/{b}.hea", rows).tolist() == ["p12/x.hea", "p6/y.hea"]
    assert fill_pattern("b", rows).tolist() == ["x", "y"]
