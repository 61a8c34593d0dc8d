from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from einthoven.data.sources.cinc import CinC2021
from einthoven.data.sources.concat import NUMBER_OFFSET, Concat
from einthoven.data.sources.embedded import Synthetic
from einthoven.data.sources.folder import Folder
from einthoven.data.sources.labels import Labels, shared_classes
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.sources.splits import split_rows
from einthoven.errors import UserError

FOLDS = {"train": list(range(1, 9)), "val": [9], "test": [10]}


@pytest.fixture
def challenge(tmp_path: Path, write_record: Callable[..., Path]) -> Path:
    """Records of the challenge: two of PTB-XL, one of Georgia, one of CPSC 2018."""
    rng, folder = np.random.default_rng(1), tmp_path / "challenge"
    folder.mkdir()
    stated = {"HR00007": "426783006", "HR00900": "164865005", "E00001": "164873001", "A0001": "59118001"}
    for name, dx in stated.items():
        path = write_record(folder, name, rng.integers(-500, 500, (12, 5000)), 500)
        with path.with_suffix(".hea").open("a") as file:
            file.write(f"#Dx: {dx}\n")
    return folder


def joined(tmp_path: Path, corpus: Path, challenge: Path, **options: object) -> Concat:
    database = corpus / "ptbxl_database.csv"
    (tmp_path / "whole").mkdir(exist_ok=True)
    last = database.read_text().splitlines()[-1].split(",", 1)[1]
    (tmp_path / "whole" / "ptbxl_database.csv").write_text(f"{database.read_text()}900,{last}\n")
    sources = {
        "ptbxl": PTBXL(corpus, 100, "unused"),
        "cinc2021": CinC2021(challenge, 500, "unused", ptbxl=tmp_path / "whole", only=["ptbxl", "georgia"]),
        "synthetic": Synthetic(12, 0, 1.0, 100, "unused"),
    }
    settings: dict[str, object] = {"cache": tmp_path / "cache", "fs": 100} | options
    return Concat(sources, **settings)  # type: ignore[arg-type]


def test_a_recording_is_there_once_and_patients_of_sources_stay_apart(
    tmp_path: Path, corpus: Path, challenge: Path
) -> None:
    source = joined(tmp_path, corpus, challenge)
    store = source.open()
    table = store.table
    assert table["source"].value_counts().to_dict() == {
        "ptbxl": 48,
        "synthetic": 12,
        "cinc2021/georgia": 1,
        "cinc2021/ptbxl": 1,  # HR00900; HR00007 is there as record 7 of ptbxl
    }
    assert table["ecg_id"].is_unique and store.signals.shape == (62, 12, 1000)
    same = table[table["ecg_id"] == 900]
    last = table[(table["source"] == "ptbxl") & (table["ecg_id"] == 48)]
    for column in ("patient_id", "strat_fold"):  # of one patient of PTB-XL, as the test's table has it
        assert same[column].item() == last[column].item()
    others = table[~table["source"].str.contains("ptbxl")]
    assert (others["patient_id"] >= NUMBER_OFFSET).all() and not others["patient_id"].isin(
        table["patient_id"][:48]
    ).any()
    split_rows(source.labels(table, "superdiagnostic"), FOLDS)  # refuses a patient in two splits


def test_signals_are_those_of_the_parts(tmp_path: Path, corpus: Path, challenge: Path) -> None:
    source = joined(tmp_path, corpus, challenge, leads=("V2", "I"))
    store = source.open()
    assert store.leads == ("V2", "I") and store.signals.shape == (62, 2, 1000)
    cinc = CinC2021(challenge, 100, tmp_path / "cache", only=["georgia"], leads=("V2", "I")).open()
    row = store.table["source"].tolist().index("cinc2021/georgia")
    np.testing.assert_array_equal(store.signals[row], cinc.signals[0])
    ptbxl = PTBXL(corpus, 100, tmp_path / "cache", leads=("V2", "I"), seconds=10.0).open()
    np.testing.assert_array_equal(store.signals[np.arange(48)], ptbxl.signals[np.arange(48)])
    assert joined(tmp_path, corpus, challenge, leads=("V2", "I")).open().fingerprint == store.fingerprint


def test_classes_are_those_that_all_annotate(tmp_path: Path, corpus: Path, challenge: Path) -> None:
    source = joined(tmp_path, corpus, challenge)
    table = source.open().table
    labels = source.labels(table, "superdiagnostic")
    assert labels.classes == ("CD", "HYP", "MI", "NORM", "STTC") and labels.notes == ()
    assert positive(labels, table, "cinc2021/georgia") == {"HYP"}
    assert positive(labels, table, "cinc2021/ptbxl") == {"MI"}
    rhythm = source.labels(table, "rhythm")
    assert set(rhythm.classes) <= {"SR", "AFIB"}


def positive(labels: Labels, table, source: str) -> set[str]:  # type: ignore[no-untyped-def]
    (ecg_id,) = table.loc[table["source"] == source, "ecg_id"]
    row = labels.matrix[labels.ecg_ids.tolist().index(ecg_id)]
    return {name for name, there in zip(labels.classes, row, strict=True) if there}


def test_a_class_that_one_source_does_not_annotate_is_no_negative() -> None:
    annotated = {"a": frozenset("XY"), "b": frozenset("YZ"), "c": frozenset("Y")}
    classes, notes = shared_classes(annotated)
    assert classes == {"Y"}
    assert notes == ("classes left out, as they are not annotated: X (by b, c), Z (by a, c)",)
    with pytest.raises(UserError, match=r"classes that are not annotated: X \(by b, c\)"):
        shared_classes(annotated, refuse=True)
    assert shared_classes({"a": frozenset("XY")}) == ({"X", "Y"}, ())


def test_refusals(tmp_path: Path, corpus: Path, challenge: Path) -> None:
    with pytest.raises(UserError, match=r"data\.sources: none given; name them as in \+data@"):
        Concat({}, 100, tmp_path)
    with pytest.raises(UserError, match=r"data\.classes=some"):
        joined(tmp_path, corpus, challenge, classes="some")
    strict = joined(tmp_path, corpus, challenge, classes="all")
    strict.sources["cinc2021"] = CinC2021(challenge, 500, "unused", only=["cpsc2018"])  # type: ignore[index]
    with pytest.raises(UserError, match=r"HYP \(by cinc2021/cpsc2018\), MI"):
        strict.labels(strict.open().table, "superdiagnostic")


def test_label_sets_are_those_of_all(tmp_path: Path, corpus: Path, challenge: Path) -> None:
    source = joined(tmp_path, corpus, challenge)
    assert set(source.label_sets) == {"superdiagnostic", "rhythm"}
    assert Concat({"a": Folder("x", 100, "y"), **source.sources}, 100, tmp_path).label_sets == ()


def test_what_a_folder_says_of_its_records_is_said_of_the_whole(
    tmp_path: Path, write_record: Callable[..., Path]
) -> None:
    for name in ("a", "b"):
        write_record(tmp_path, name, np.ones((12, 1000), np.int16), 100)
    (tmp_path / "labels.csv").write_text("path,labels\na,AF\nb,\n")
    source = Concat({"mine": Folder(tmp_path, 100, "unused")}, 100, tmp_path / "cache")
    notes = source.labels(source.open().table, "columns").notes
    assert any(note.startswith("mine: no data.patient_column") for note in notes)


def test_real_sources_together(real_data: Path, tmp_path: Path) -> None:
    sources = {
        "ptbxl": PTBXL(real_data / "ptbxl", 100, "unused"),
        "cinc2021": CinC2021(real_data / "cinc2021", 100, "unused"),
    }
    source = Concat(sources, 100, tmp_path)
    store = source.open()
    labels = source.labels(store.table, "superdiagnostic")
    assert len(store.table) == 1732 + 46
    assert labels.classes == ("CD", "NORM") and "HYP (by cinc2021/cpsc2018)" in labels.notes[0]
    georgia = CinC2021(real_data / "cinc2021", 100, "unused", only=["georgia"])
    without = Concat(sources | {"cinc2021": georgia}, 100, tmp_path)
    assert len(without.labels(without.open().table, "superdiagnostic").classes) == 5
