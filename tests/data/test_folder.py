from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from einthoven.data import read_record
from einthoven.data.sources.folder import Folder
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

LABELS = ["AF", "AF; RBBB", "", "RBBB", "normal", "normal", "normal", ""]


@pytest.fixture
def made(tmp_path: Path, write_record: Callable[..., Path]) -> Folder:
    """Eight records of two patients each, two sampling frequencies, and their table."""
    rng, root = np.random.default_rng(0), tmp_path / "mine"
    (root / "b").mkdir(parents=True)
    rows = ["path,labels,who,fold,years,AF,RBBB"]
    for k, labels in enumerate(LABELS):
        folder, fs = (root, 100) if k % 2 else (root / "b", 500)
        write_record(folder, f"r{k}", rng.integers(-500, 500, (12, 10 * fs)), fs)
        name = f"r{k}.hea" if k % 2 else f"b/r{k}"
        rows.append(f"{name},{labels},p{k // 2},{k // 2 + 1},{50 + k},{int('AF' in labels)},{int('RBBB' in labels)}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return Folder(root, 100, tmp_path / "cache", patient_column="who", age_column="years")


def rewrite(source: Folder, change: Callable[[list[str]], list[str]]) -> None:
    file = Path(source.root) / "labels.csv"
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")


def test_records_of_two_rates_and_their_labels(made: Folder) -> None:
    store = made.open()
    assert store.signals.shape == (8, 12, 1000) and store.table["ecg_id"].tolist() == list(range(1, 9))
    labels = made.labels(store.table, "columns", keep_unlabelled=True)
    assert labels.classes == ("AF", "RBBB", "normal")
    assert labels.matrix.tolist() == [[w in row for w in labels.classes] for row in LABELS]
    assert store.table["age"].tolist() == list(range(50, 58))


def test_options_are_for_the_files_of_a_mixed_folder_that_lack_the_value(made: Folder) -> None:
    root = Path(made.root)
    ecg = read_record(root / "r1.hea").signal
    np.save(root / "plain.npy", ecg * 1000)
    text = "\n".join([",".join(LEADS[::-1]), *(",".join(map(str, row)) for row in 1000 * ecg[::-1].T)])
    (root / "named.csv").write_text(text)
    rewrite(made, lambda rows: [*rows, "plain.npy,AF,p8,1,50,1,0", "named.csv,AF,p9,1,50,1,0"])
    source = replace(made, file_fs=100.0, file_units="uV", file_leads=list(LEADS))
    signals = source.open().signals
    np.testing.assert_array_equal(signals[8], signals[1])
    np.testing.assert_array_equal(signals[9], signals[1])


def test_folds_are_made_by_patient_and_are_the_same_each_time(made: Folder) -> None:
    table = made.open().table
    assert table.groupby("patient_id")["strat_fold"].nunique().max() == 1
    assert table["patient_id"].nunique() == table["strat_fold"].nunique() == 4
    again = replace(made, cache=Path(made.cache) / "other").open().table
    assert again["strat_fold"].tolist() == table["strat_fold"].tolist()


def test_folds_may_be_given(made: Folder) -> None:
    assert replace(made, fold_column="fold").open().table["strat_fold"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_column_a_class(made: Folder) -> None:
    source = replace(made, label_column=None, class_columns=["AF", "RBBB"])
    labels = source.labels(source.open().table, "columns", keep_unlabelled=True)
    assert labels.classes == ("AF", "RBBB") and labels.matrix.sum(axis=0).tolist() == [2, 2]
    assert source.annotates(source.open().table, "columns") == {"folder": {"AF", "RBBB"}}


def test_what_is_not_listed_is_said(made: Folder) -> None:
    root = Path(made.root)
    table = made.open().table
    assert made.labels(table, "columns").notes == ()
    for suffix in (".hea", ".dat"):
        shutil.copy(root / f"r1{suffix}", root / f"extra{suffix}")
    notes = replace(made, patient_column=None).labels(table, "columns").notes
    assert "record files of mine that are not used: 1, such as extra.hea" in notes[0]
    assert "one patient may be in different folds" in notes[1]


def test_a_record_outside_of_the_folder_is_refused_and_a_link_to_one_is_followed(made: Folder, tmp_path: Path) -> None:
    root = Path(made.root)
    for name in ("secret.hea", "secret.dat"):
        shutil.copy(root / f"r1{Path(name).suffix}", tmp_path / name)
    for path in ("../secret.hea", "b/../../secret", str(tmp_path / "secret.hea"), "b/../r3"):
        rewrite(made, lambda rows, path=path: [rows[0], f"{path},AF,p0,1,50,1,0", *rows[2:]])  # type: ignore[misc]
        with pytest.raises(UserError, match=r"labels\.csv: .*lies outside of data\.root=") as refused:
            made.open()
        assert repr(path) in str(refused.value)
    (root / "linked.npy").symlink_to(tmp_path / "far.npy")
    np.save(tmp_path / "far.npy", read_record(root / "r1.hea").signal)
    for path in ("linked.npy", str(root.absolute() / "linked.npy")):
        rewrite(made, lambda rows, path=path: [rows[0], f"{path},AF,p0,1,50,1,0", *rows[2:]])  # type: ignore[misc]
        assert len(replace(made, file_fs=100.0, file_units="mV", file_leads=LEADS).open().table) == 8


def test_missing_files_may_be_left_out(made: Folder) -> None:
    (Path(made.root) / "r1.hea").unlink()
    with pytest.raises(UserError, match=r"r1\.hea is not in .*data\.allow_missing=true"):
        made.open()
    assert len(replace(made, allow_missing=True).open().table) == 7


def test_an_unreadable_record_is_quarantined_where_asked_for(made: Folder) -> None:
    (Path(made.root) / "r1.dat").write_bytes(b"short")
    with pytest.raises(UserError, match=r"r1\.dat.*; 1 of 8 records cannot be read"):
        made.open()
    store = replace(made, on_error="quarantine").open()
    assert len(store.table) == 7 and len(store.quarantine) == 1


def test_the_refusal_counts_the_damaged_records_and_the_others_are_not_read_again(made: Folder) -> None:
    damaged = [Path(made.root) / name for name in ("r1.dat", "r5.dat", "b/r2.dat")]
    for file in damaged:
        file.write_bytes(b"short")
    for _ in range(2):
        with pytest.raises(
            UserError,
            match=r"r1\.dat.*; 3 of 8 records cannot be read \(r1.hea, r2, r5.hea\): data",
        ):
            made.open()
    assert len(list(Path(made.cache).glob("packs/*/*"))) == 1, "the second time, no pack is added"

    store = replace(made, on_error="quarantine").open()
    assert store.records_left_out == "3 of 8 records are left out"
    assert sorted(store.left_out["ecg_id"]) == [2, 3, 6]


def test_records_without_a_file_are_listed_beside_the_damaged_ones(made: Folder) -> None:
    (Path(made.root) / "r1.hea").unlink()
    (Path(made.root) / "b" / "r4.dat").write_bytes(b"short")
    store = replace(made, allow_missing=True, on_error="quarantine").open()
    listed = dict(zip(store.left_out["file"], store.left_out["reason"], strict=True))
    assert listed["r1.hea"] == "its file does not exist" and "r4.dat" in listed["r4"] and len(listed) == 2
    assert store.records_left_out == "2 of 8 records are left out"
    assert made.labels(store.table, "columns").matrix.shape[0] == 6 - 2, "two of the others have no label"


def test_a_whole_corpus_leaves_nothing_out(made: Folder) -> None:
    store = replace(made, allow_missing=True, on_error="quarantine").open()
    assert not len(store.left_out) and store.records_left_out == ""


def cell(row: int, column: int, value: str) -> Callable[[list[str]], list[str]]:
    def change(lines: list[str]) -> list[str]:
        cells = lines[row].split(",")
        cells[column] = value
        return [*lines[:row], ",".join(cells), *lines[row + 1 :]]

    return change


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        (lambda lines: [*lines, lines[1].replace("b/r0", "b/r0.hea")], {}, "rows 1 and 9 are both of b/r0"),
        (lambda lines: lines[:1], {}, "no rows"),
        (lambda lines: [], {}, "not a CSV table"),
        (lambda lines: ["a,b", '"x'], {}, "not a CSV table"),
        (cell(0, 0, "file"), {}, "no column 'path'; it has file, labels"),
        (cell(3, 2, ""), {}, "row 3: column 'who' is empty"),
        (cell(3, 0, "b/none"), {}, "b/none is not in"),
        (cell(2, 1, '"A\nB"'), {}, r"class 'A\nB': expected a name without line breaks"),
        (cell(2, 3, "x"), {"fold_column": "fold"}, "row 2: column 'fold' has 'x'; expected the number of a fold"),
        (cell(2, 5, ""), {"label_column": None, "class_columns": ["AF"]}, "row 2: column 'AF' has ''; expected 0 or 1"),
        (list, {"class_columns": ["AF"]}, "expected one of them; add data.label_column=null"),
        (
            list,
            {"label_column": None},
            "data.label_column=null: expected the column of the labels, or data.class_columns",
        ),
        (list, {"root": "nowhere"}, "no such folder"),
        (list, {"table": "none.csv"}, "none.csv: cannot be read"),
        (list, {"leads": ["X"]}, "data.leads=[X]"),
    ],
)
def test_each_mistake_is_one_sentence(
    made: Folder, change: Callable[[list[str]], list[str]], options: dict[str, Any], expected: str
) -> None:
    rewrite(made, change)
    with pytest.raises(UserError) as refusal:
        replace(made, **options).open()
    assert expected in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_mistake_leaves_no_store(made: Folder) -> None:
    rewrite(made, cell(3, 0, "b/none"))
    with pytest.raises(UserError):
        made.open()
    assert not (Path(made.cache) / "stores").exists()


def test_formats_may_be_mixed(made: Folder) -> None:
    """A CSV that says all itself and an array with its sidecar beside WFDB records."""
    rng, root = np.random.default_rng(1), Path(made.root)
    signal = rng.normal(0, 0.5, (1000, 12)).round(3)
    lines = [",".join([str(t / 100), *map(str, row)]) for t, row in enumerate(signal.tolist())]
    (root / "x.csv").write_text("\n".join([",".join(("time", *LEADS)), *lines]))
    (root / "x.json").write_text(json.dumps({"units": "mV"}))
    np.save(root / "y.npy", signal.T)
    (root / "y.json").write_text(json.dumps({"fs": 100, "units": "mV", "leads": list(LEADS)}))
    more = ["x.csv,AF,p8,1,60,1,0", "y.npy,,p9,1,60,0,0"]
    rewrite(made, lambda lines: [*lines, *more])
    store = made.open()
    assert store.signals.shape == (10, 12, 1000)
    for row in (8, 9):
        np.testing.assert_allclose(store.signals[row] * 1e-3, signal.T, atol=6e-4)
    assert made.labels(store.table, "columns").notes == ()
