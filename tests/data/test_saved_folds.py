"""Folds that are made once: whatever happens to the table, a patient keeps the fold."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.data.sources.cinc import CinC2021
from einthoven.data.sources.concat import Concat
from einthoven.data.sources.folder import Folder
from einthoven.data.sources.saved_folds import SavedFolds
from einthoven.data.sources.stratify import stratified_folds
from einthoven.errors import UserError

Table = tuple[list[str], NDArray[np.uint8]]  # patient and classes of each record


def table(rng: np.random.Generator, patients: int, first: int = 0, classes: int = 5) -> Table:
    """One to three records of each patient; patients are numbered from `first` on."""
    names = [f"p{first + who}" for who in range(patients) for _ in range(rng.integers(1, 4))]
    return names, (rng.random((len(names), classes)) < [0.02, 0.05, 0.1, 0.3, 0.5][:classes]).astype(np.uint8)


def joined(*tables: Table) -> Table:
    return [name for names, _ in tables for name in names], np.concatenate([labels for _, labels in tables])


def saved(file: Path, reserve: Path | None = None) -> SavedFolds:
    return SavedFolds(file, reserve, "who", "labels.csv")


def assign(file: Path, rows: Table, **more: Path) -> dict[str, int]:
    """Fold of each patient of a table, which is one fold."""
    names, labels = rows
    folds, _ = saved(file, **more).folds(pd.Series(names), labels, np.unique(names, return_inverse=True)[1])
    by_patient = {name: set(folds[np.array(names) == name].tolist()) for name in set(names)}
    assert all(len(different) == 1 for different in by_patient.values())
    return {name: different.pop() for name, different in by_patient.items()}


def written(file: Path) -> dict[str, int]:
    rows = pd.read_csv(file, dtype={"who": str}, keep_default_na=False)
    assert list(rows) == ["who", "fold"] and rows["who"].is_unique
    return dict(zip(rows["who"], rows["fold"].tolist(), strict=True))


def test_the_first_folds_are_those_of_the_version_that_did_not_save_them(tmp_path: Path) -> None:
    names, labels = table(np.random.default_rng(0), 30)
    folds = assign(tmp_path / "folds.csv", (names, labels))
    fresh = stratified_folds(labels, np.unique(names, return_inverse=True)[1])
    assert [folds[name] for name in names] == fresh.tolist()
    assert written(tmp_path / "folds.csv") == folds
    # as version 0.1 printed them
    assert "".join(str(folds[f"p{who}"] % 10) for who in range(30)) == "660783544495320790988139615872"


@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.lists(st.tuples(st.integers(0, 12), st.floats(0, 0.5), st.booleans()), max_size=5),
)
@settings(max_examples=30)
def test_a_patient_keeps_the_fold(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: list[tuple[int, float, bool]]
) -> None:
    """Patients and records are added and removed, rows change places, labels change."""
    rng, file = np.random.default_rng(seed), tmp_path_factory.mktemp("folds") / "folds.csv"
    rows, count = table(rng, 20), 20
    known = assign(file, rows)
    for added, removed, relabelled in steps:
        names, labels = joined(rows, table(rng, added, count), table(rng, 3))  # the last: records of known patients
        count += added
        order = rng.permutation(len(names))[round(removed * len(names)) :]
        labels = labels[rng.permutation(len(names))] if relabelled else labels
        rows = [names[row] for row in order], labels[order]
        folds = assign(file, rows)
        assert known | folds == folds | known  # nobody moved
        known |= folds
    assert written(file) == known  # who has left keeps the fold, too


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_order_of_new_rows_does_not_matter(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("folds")
    first, more = table(rng, 20), table(rng, 15, 20)
    assign(folder / "a.csv", first)
    shutil.copy(folder / "a.csv", folder / "b.csv")
    names, labels = joined(first, more)
    order = rng.permutation(len(names))
    shuffled = [names[row] for row in order], labels[order]
    assert assign(folder / "a.csv", (names, labels)) == assign(folder / "b.csv", shuffled)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_a_new_patient_joins_the_fold_that_lacks_the_class_most(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng, file = np.random.default_rng(seed), tmp_path_factory.mktemp("folds") / "folds.csv"
    rows = table(rng, 40)
    folds = assign(file, rows)
    names, labels = rows
    leaving = set(rng.choice(sorted(set(names)), 15, replace=False))  # so that the folds are no longer even
    keep = [row for row, name in enumerate(names) if name not in leaving]
    names, labels = [names[row] for row in keep], labels[keep]
    column = int(rng.integers(5))
    of_row = np.array([folds[name] for name in names])
    positives = [labels[of_row == fold, column].sum() for fold in range(1, 11)]
    records = [(of_row == fold).sum() for fold in range(1, 11)]
    new = joined((names, labels), (["new"], np.eye(5, dtype=np.uint8)[[column]]))
    fold = assign(file, new)["new"]
    neediest = min(range(10), key=lambda k: (positives[k], records[k]))
    assert (positives[fold - 1], records[fold - 1]) == (positives[neediest], records[neediest])


@pytest.mark.parametrize("step", [2, 20, 100])
def test_classes_stay_spread_when_a_table_grows(step: int) -> None:
    """Mean difference between the share of a class in a fold and in the whole, of 300 patients that were 100."""
    measured, chance = [], []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        names, labels = table(rng, 300)
        patient = np.array([int(name[1:]) for name in names])
        folds = np.zeros(len(names), np.int64)
        for patients in range(100, 301, step):
            rows = np.searchsorted(patient, patients)
            folds[:rows] = stratified_folds(labels[:rows], patient[:rows], known=folds[:rows])
        for numbers, differences in ((folds, measured), (rng.integers(1, 11, 300)[patient], chance)):
            shares = [labels[numbers == fold].mean(axis=0) for fold in range(1, 11)]
            differences.append(np.abs(np.array(shares) - labels.mean(axis=0)).mean())
    assert np.mean(measured) < 0.5 * np.mean(chance)


def test_ten_rows_in_a_large_table_move_nobody(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((10_010, 5)) < 0.2).astype(np.uint8)
    names, numbers = pd.Series([f"p{k}" for k in range(10_010)]), np.arange(10_010)
    first, _ = saved(tmp_path / "f.csv").folds(names[:10_000], labels[:10_000], numbers[:10_000])
    second, notes = saved(tmp_path / "f.csv").folds(names, labels, numbers)
    assert (second[:10_000] == first).all() and notes == (
        "10 new names of 'who' have a fold now, saved in f.csv; the others keep theirs",
    )
    assert (stratified_folds(labels, numbers)[:10_000] != first).mean() > 0.8  # what happened before folds were saved


# ---------------------------------------------------------------- where they are saved


@pytest.fixture
def made(tmp_path: Path, write_record: Callable[..., Path]) -> Folder:
    """Twenty records of ten patients, with two columns of labels."""
    root = tmp_path / "mine"
    root.mkdir()
    rows = ["path,labels,other,who"]
    for k in range(20):
        write_record(root, f"r{k}", np.full((12, 1000), k))
        rows.append(f"r{k},{'AF' if k % 3 else ''},{'LBBB' if k % 4 else 'RBBB'},patient {k // 2}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return Folder(root, 100, tmp_path / "cache", patient_column="who")


def folds_of(source: Folder) -> dict[str, int]:
    table = source.open().table
    return dict(zip(table["path"], table["strat_fold"].tolist(), strict=True))


def add(source: Folder, *rows: str) -> None:
    """Add rows at the beginning of a table, so that the number of each row moves."""
    root = Path(source.root)
    header, *lines = (root / "labels.csv").read_text().splitlines()
    for row in rows:
        for suffix in (".hea", ".dat"):
            data = (root / f"r0{suffix}").read_bytes()
            (root / f"{row.split(',')[0]}{suffix}").write_bytes(data.replace(b"r0", row.split(",")[0].encode()))
    (root / "labels.csv").write_text("\n".join([header, *rows, *lines]) + "\n")


@pytest.mark.parametrize("patient_column", ["who", None])
def test_a_new_cache_and_new_rows_find_the_folds(made: Folder, patient_column: str | None) -> None:
    made = replace(made, patient_column=patient_column)
    first = made.open()
    assert "10 folds by" in first.notes[0] and "labels.folds.csv: keep that file" in first.notes[0]
    folds = folds_of(made)
    add(made, "n0,AF,LBBB,a new patient", "n1,,RBBB,patient 3")
    after = replace(made, cache=Path(made.cache) / "new").open()
    assert "the others keep theirs" in after.notes[0]
    found = folds_of(replace(made, cache=Path(made.cache) / "newer"))
    assert {path: found[path] for path in folds} == folds
    if patient_column:
        assert found["n1"] == found["r6"] == found["r7"]


def test_another_column_of_labels_has_the_same_folds(made: Folder) -> None:
    assert folds_of(replace(made, label_column="other")) == folds_of(made)


def test_a_record_keeps_its_fold_however_it_is_written(made: Folder) -> None:
    made = replace(made, patient_column=None)
    folds = folds_of(made)
    file = Path(made.root) / "labels.csv"
    file.write_text(file.read_text().replace("r3,", "./r3.hea,").replace("r5,", "r5.dat,"))
    assert list(folds_of(made).values()) == list(folds.values())


def test_two_tables_of_one_folder_have_folds_of_their_own(made: Folder) -> None:
    root = Path(made.root)
    lines = (root / "labels.csv").read_text().splitlines()
    (root / "some.csv").write_text("\n".join([lines[0], *lines[11:]]))
    folds_of(made)
    folds_of(replace(made, table="some.csv"))
    assert sorted(file.name for file in root.glob("*.folds.csv")) == ["labels.folds.csv", "some.folds.csv"]


def test_a_file_of_folds_may_be_named(made: Folder) -> None:
    source = replace(made, fold_file="shared/folds.csv")
    folds = folds_of(source)
    assert not (Path(made.root) / "labels.folds.csv").exists()
    lines = (Path(made.root) / "shared" / "folds.csv").read_text().splitlines()
    assert lines[0] == "who,fold" and len(lines) == 11
    assert folds_of(source) == folds


def test_given_folds_are_not_saved(made: Folder) -> None:
    (Path(made.root) / "given.csv").write_text("path,labels,f\nr0,AF,3\nr1,,4\n")
    source = replace(made, table="given.csv", patient_column=None, fold_column="f")
    assert folds_of(source) == {"r0": 3, "r1": 4} and not list(Path(made.root).glob("*folds*"))


@pytest.mark.parametrize("read_only", ["folder", "file"])
def test_folds_of_a_folder_that_cannot_be_written_are_in_the_cache_until_it_can(made: Folder, read_only: str) -> None:
    root, file = Path(made.root), Path(made.root) / "labels.folds.csv"
    if read_only == "file":
        folds_of(made)
        add(made, "n0,AF,LBBB,a new patient")
        file.chmod(0o444)
    else:
        root.chmod(0o555)
    folds = folds_of(made)
    root.chmod(0o555)
    (reserve,) = (Path(made.cache) / "folds").glob("labels-*.csv")
    assert len(written(reserve)) == len(set(folds)) // 2 or read_only == "file"
    if read_only == "folder":
        assert not file.exists()
        (note,) = made.labels(made.open().table, "columns").notes
        assert "folds are saved in the cache (folds/labels-" in note and str(root) not in note
    assert folds_of(made) == folds
    root.chmod(0o755)
    if read_only == "file":
        file.chmod(0o644)
    add(made, "n1,AF,LBBB,another new patient")
    grown = folds_of(made)
    assert {path: grown[path] for path in folds} == folds and len(written(file)) == len(set(written(file)))
    assert not reserve.exists() and made.labels(made.open().table, "columns").notes == ()


def test_folds_that_can_be_saved_nowhere_are_refused(made: Folder) -> None:
    Path(made.root).chmod(0o555)
    with pytest.raises(UserError, match=r"the folds of labels\.csv cannot be saved .*; data\.fold_file names"):
        replace(made, fold_file="folds.csv").open()
    (Path(made.root).parent / "cache").write_text("no folder")
    with pytest.raises(UserError, match=r"the folds of labels\.csv cannot be saved"):
        made.open()


def test_processes_that_save_at_once_agree(tmp_path: Path) -> None:
    for attempt in range(5):
        rng, file = np.random.default_rng(attempt), tmp_path / f"{attempt}.csv"
        first = table(rng, 40)
        tables = [first, *(joined(first, table(rng, 5, 40 + 5 * k)) for k in range(3))]
        found: list[dict[str, int]] = []
        start = threading.Barrier(len(tables))

        def work(rows: Table, file: Path = file, start: threading.Barrier = start) -> None:
            start.wait()
            found.append(assign(file, rows))  # noqa: B023

        workers = [threading.Thread(target=work, args=(rows,)) for rows in tables]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        together = written(file)
        assert len(found) == len(tables) and len(together) == 55
        assert all(together[name] == fold for folds in found for name, fold in folds.items())


# ---------------------------------------------------------------- files that are not to be trusted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not a CSV table with a header line"),
        ("who,fold\n", None),  # of nobody: that is where every file begins
        ("who\npatient 1\n", "columns 'who'; expected 'who', 'fold'"),
        ("path,fold\nr1,2\n", "columns 'path', 'fold'; expected 'who', 'fold': these folds were made by 'path': use"),
        ("who,fold\npatient 1\n", "row 1 is 'patient 1', ''; expected a name and a fold from 1 to 10"),
        ("who,fold\npatient 1,2\n,3\n", "row 2 is '', '3'"),
        ("who,fold\npatient 1,0\n", "row 1 is 'patient 1', '0'"),
        ("who,fold\npatient 1,11\n", "row 1 is 'patient 1', '11'"),
        ("who,fold\npatient 1,2.5\n", "row 1 is 'patient 1', '2.5'"),
        ("who,fold\npatient 1,nan\n", "row 1 is 'patient 1', 'nan'"),
        ("<<<<<<< HEAD\nwho,fold\n", "not a CSV table"),
        ("who,fold\n<<<<<<< HEAD\npatient 1,2\n", "row 1 is '<<<<<<< HEAD', ''"),
        ("who,fold\npatient 1,2\npatient 1,3\n", "'patient 1' has several rows (folds 2, 3)"),
        ("who,fold\npatient 1,2\npatient 1,2\n", "'patient 1' has several rows (folds 2, 2)"),
        ("who,fold\nsomebody,2\nelse,3\n", "none of its 2 names ('somebody' …) stands in the column 'who'"),
        ("who,fold\n\udcff,2\n", "not a CSV table"),
    ],
)
def test_a_damaged_file_is_one_sentence(made: Folder, text: str, expected: str | None) -> None:
    file = Path(made.root) / "labels.folds.csv"
    file.write_bytes(text.encode(errors="surrogateescape"))
    if expected is None:
        made.open()
        return
    with pytest.raises(UserError) as refusal:
        made.open()
    assert expected in str(refusal.value) and "labels.folds.csv" in str(refusal.value)
    assert "\n" not in str(refusal.value) and file.read_bytes() == text.encode(errors="surrogateescape")


def test_two_files_that_contradict_each_other_are_one_sentence(tmp_path: Path) -> None:
    file, reserve = tmp_path / "a.csv", tmp_path / "b.csv"
    file.write_text("who,fold\np0,1\np1,2\n")
    reserve.write_text("who,fold\np2,7\np1,3\n")
    rows = ["p0", "p1", "p2"], np.ones((3, 1), np.uint8)
    with pytest.raises(UserError, match=r"who 'p1' is in fold 2 by .*a\.csv and in fold 3 by .*b\.csv; delete"):
        assign(file, rows, reserve=reserve)
    reserve.write_text("who,fold\np2,7\np1,2\n")
    assert assign(file, rows, reserve=reserve) == {"p0": 1, "p1": 2, "p2": 7}


def test_a_file_may_be_edited_by_a_spreadsheet(made: Folder) -> None:
    folds = folds_of(made)
    file = Path(made.root) / "labels.folds.csv"
    rows = file.read_text().splitlines()
    file.write_bytes("\r\n".join([rows[0], *rows[:0:-1]]).encode("utf-8-sig"))
    assert folds_of(made) == folds


# ---------------------------------------------------------------- the other sources


def test_records_of_the_challenge_keep_their_folds(tmp_path: Path, write_record: Callable[..., Path]) -> None:
    root = tmp_path / "records"
    root.mkdir()

    def write(*names: str, dx: str = "426783006") -> None:
        for name in names:
            file = write_record(root, name, np.full((12, 5000), int(name.strip("AJSQE"))), 500).with_suffix(".hea")
            file.write_text(f"{file.read_text()}#Dx: {dx}\n")

    write(*(f"A{k:04d}" for k in range(1, 16)), *(f"JS{k:05d}" for k in range(1, 16)), "S0001")
    source = CinC2021(root, 100, tmp_path / "cache")

    def folds(source: CinC2021) -> dict[str, int]:
        table = source.open().table
        return dict(zip(table["name"], table["strat_fold"].tolist(), strict=True))

    first = folds(source)
    assert first.pop("S0001") == 1
    fresh = stratified_folds(np.ones((30, 1), np.uint8), np.arange(30))
    assert [first[name] for name in sorted(first)] == fresh.tolist()
    table = pd.read_csv(root / "folds.csv")
    assert dict(zip(table["record"], table["fold"], strict=True)) == first
    write("A0000", "E00001", dx="164889003")
    (root / "A0007.hea").unlink()
    write("A0003", dx="59118001")
    grown = folds(replace(source, cache=tmp_path / "new"))
    assert {name: grown[name] for name in first if name != "A0007"} == {n: f for n, f in first.items() if n != "A0007"}
    some = folds(replace(source, only=["cpsc2018"]))
    assert some == {name: fold for name, fold in grown.items() if name.startswith("A")}
    joined = Concat({"a": replace(source, only=["cpsc2018"])}, 100, tmp_path / "cache").open()
    assert joined.table["strat_fold"].tolist() == list(some.values())
