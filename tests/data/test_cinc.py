from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from einthoven.data.formats.reading import read_record
from einthoven.data.sources.cinc import CinC2021
from einthoven.data.sources.labels import label_matrix
from einthoven.data.sources.snomed import LABEL_SETS
from einthoven.errors import UserError


@pytest.fixture(scope="module")
def table(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return CinC2021(real_data / "cinc2021", 100, tmp_path_factory.mktemp("cache")).open().table


@pytest.fixture
def made(tmp_path: Path, write_record) -> CinC2021:  # type: ignore[no-untyped-def]
    """A few records with the names and comments of the challenge, in folders."""
    rng = np.random.default_rng(0)
    for name, dx in (("A0001", "426783006"), ("JS00002", "164889003"), ("JS10647", "59118001"), ("S0001", "164865005")):
        folder = tmp_path / "records" / name[0]
        folder.mkdir(parents=True, exist_ok=True)
        path = write_record(folder, name, rng.integers(-500, 500, (12, 5000)), 500)
        with path.with_suffix(".hea").open("a") as file:
            file.write(f"#Age: 60\n# Sex: Female\n#Dx: {dx}\n")
    return CinC2021(tmp_path / "records", 100, tmp_path / "cache")


def hr(source: CinC2021, *numbers: int) -> None:
    """Add records of PTB-XL, as the challenge names them."""
    for number in numbers:
        for suffix in (".hea", ".dat"):
            text = (Path(source.root) / "A" / f"A0001{suffix}").read_bytes()
            file = Path(source.root) / f"HR{number:05d}{suffix}"
            file.write_bytes(text.replace(b"A0001", f"HR{number:05d}".encode()) if suffix == ".hea" else text)


def test_every_real_record_is_in_the_store(real_data: Path, table: pd.DataFrame) -> None:
    assert len(table) == 46 and table["ecg_id"].is_unique
    counts = table["source"].value_counts().to_dict()
    names = [file.stem for file in (real_data / "cinc2021").glob("*.hea")]
    initials = {"cpsc2018": "A", "cpsc2018_extra": "Q", "ptb": "S", "georgia": "E"}
    assert {k: counts[k] for k in initials} == {k: sum(n[0] == v for n in names) for k, v in initials.items()}
    assert counts["chapman_shaoxing"] + counts["ningbo"] == sum(n.startswith("JS") for n in names)
    assert table["age"].notna().sum() == 45 and set(table["sex"]) == {0.0, 1.0}


def test_the_text_diagnoses_of_cpsc_all_map(table: pd.DataFrame) -> None:
    dx = table.set_index("name")["dx"]
    assert dx[["A0057", "A0108", "A0111", "A0127"]].tolist() == ["164909002", "284470004", "429622005", "59118001"]


def test_scored_labels_equal_those_counted_from_the_headers(real_data: Path, table: pd.DataFrame) -> None:
    source = CinC2021(real_data / "cinc2021", 100, "unused")
    labels = source.labels(table, "cinc2021", keep_unlabelled=True)
    header = (real_data / "cinc2021-tables" / "weights.csv").read_text().splitlines()[0]
    groups = [set(code.split("|")) for code in header.split(",")[1:]]
    texts = {"LBBB": "164909002", "PAC": "284470004", "STD": "429622005", "RBBB": "59118001"}
    stated = {}
    for file in (real_data / "cinc2021").glob("*.hea"):
        codes = re.search(r"Dx: (\S+)", file.read_text())
        assert codes is not None
        stated[file.stem] = {texts.get(code, code) for code in codes[1].split(",")}
    expected = {name: sum(bool(group & codes) for group in groups) for name, codes in stated.items()}
    found = dict(zip(table.set_index("ecg_id").loc[labels.ecg_ids, "name"], labels.matrix.sum(axis=1), strict=True))
    assert found == expected


def test_the_store_holds_the_record_resampled_and_cropped(real_data: Path, tmp_path: Path) -> None:
    store = CinC2021(real_data / "cinc2021", 500, tmp_path, only=["georgia"], leads=["II", "V1"]).open()
    assert store.signals.shape[1:] == (2, 5000) and store.leads == ("II", "V1")
    row = store.table["name"].tolist().index("E00003")
    expected = read_record(real_data / "cinc2021" / "E00003", want=("II", "V1")).signal
    np.testing.assert_allclose(store.signals[row] * 1e-3, expected, atol=6e-4)


def test_long_records_become_windows_with_their_time(real_data: Path, tmp_path: Path) -> None:
    table = CinC2021(real_data / "cinc2021", 100, tmp_path, long="slide", only=["ptb", "cpsc2018"]).open().table
    long = table[table["name"] == "S0001"]  # 38.4 s
    assert long["start_s"].tolist() == [0.0, 10.0, 20.0, pytest.approx(28.4)]
    assert long["record_id"].nunique() == 1 and table["ecg_id"].is_unique
    assert long["dx"].nunique() == long["strat_fold"].nunique() == 1


def test_patients_that_are_not_told_stay_in_the_training_folds(made: CinC2021) -> None:
    table = made.open().table.set_index("name")
    assert table.loc["S0001", "strat_fold"] == 1
    assert table["source"].to_dict() == {
        "A0001": "cpsc2018",
        "JS00002": "chapman_shaoxing",
        "JS10647": "ningbo",
        "S0001": "ptb",
    }


def test_records_of_ptbxl_follow_its_patients_and_folds(made: CinC2021, corpus: Path) -> None:
    hr(made, 7, 12)
    with pytest.raises(UserError, match=r"HR00007 and 1 more are records of PTB-XL: data\.ptbxl=FOLDER"):
        made.open()
    table = CinC2021(made.root, 100, made.cache, ptbxl=corpus).open().table.set_index("name")
    known = pd.read_csv(corpus / "ptbxl_database.csv").set_index("ecg_id").loc[[7, 12]]
    ours = table.loc[["HR00007", "HR00012"]]
    assert ours["ecg_id"].tolist() == [7, 12] and (ours["source"] == "ptbxl").all()
    assert ours["patient_id"].tolist() == known["patient_id"].astype(int).tolist()
    assert ours["strat_fold"].tolist() == known["strat_fold"].tolist()
    hr(made, 99999)
    with pytest.raises(UserError, match="HR99999: no row of"):
        CinC2021(made.root, 100, made.cache, ptbxl=corpus).open()


def test_a_class_that_one_database_does_not_annotate_is_left_out_and_said(made: CinC2021) -> None:
    table = made.open().table
    labels = made.labels(table, "superdiagnostic")
    assert labels.classes == ("CD", "NORM")
    (note,) = labels.notes
    assert "MI (by cpsc2018)" in note and "STTC (by ptb)" in note and "data.only" in note
    some = table[table["source"].isin(["ningbo", "ptb"])]
    assert made.labels(some, "superdiagnostic").classes == ("CD", "MI")
    assert set(made.labels(table, "cinc2021").classes) == {"AF", "NSR", "RBBB"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"root": "nowhere"}, "no such folder"),
        ({"only": ["mimic"]}, "data.only: 'mimic' is unknown; expected some of ptbxl, cpsc2018"),
        ({"only": ["georgia"]}, "no record of georgia found"),
        ({"long": "wrap"}, "long"),
    ],
)
def test_refusals(made: CinC2021, change: dict[str, object], expected: str) -> None:
    from dataclasses import replace

    with pytest.raises(UserError) as refusal:
        replace(made, **change).open()  # type: ignore[arg-type]
    assert expected in str(refusal.value) and "\n" not in str(refusal.value)


def test_names_of_others_and_names_twice_are_refused(made: CinC2021) -> None:
    root = Path(made.root)
    shutil.copy(root / "A" / "A0001.hea", root / "patient1.hea")
    with pytest.raises(UserError, match=r"patient1\.hea: not a record of the challenge"):
        made.open()
    (root / "patient1.hea").rename(root / "A0001.hea")
    with pytest.raises(UserError, match="a record of this name is also in"):
        made.open()


def test_likelihoods_are_not_there(made: CinC2021) -> None:
    with pytest.raises(UserError, match=r"task\.min_likelihood=50"):
        made.labels(made.open().table, "cinc2021", min_likelihood=50)


def test_every_label_set_has_labels(made: CinC2021) -> None:
    table = made.open().table
    for task in LABEL_SETS:
        positives = made.positives(table, task)
        assert label_matrix(table, positives, task).matrix.sum() == sum(map(len, positives)) > 0
