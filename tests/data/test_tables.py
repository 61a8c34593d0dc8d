"""Names that pandas takes for missing values, numbers or truth values: they are names in every table of the package."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from einthoven.data.doctor.report import update_quarantine
from einthoven.data.sources.folder import Folder
from einthoven.data.sources.labels import ptbxl_labels, read_database, read_statements
from einthoven.data.store.build_store import open_or_build
from einthoven.data.store.plan import Plan
from einthoven.data.tables import read_typed
from einthoven.errors import UserError

NAMES = ["NA", "N/A", "#N/A", "None", "nan", "NaN", "null", "NULL", "<NA>", "001", "1e5", "TRUE", "-1.#IND", "0x10"]
PLAIN = [name for name in NAMES if not set("#<") & set(name)]  # what a class of a folder may be called


def write(path: Path, *rows: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize("column", [0, 4, 5], ids=["statement", "class", "subclass"])
def test_a_class_of_ptbxl_keeps_its_name_and_its_records(tmp_path: Path, column: int) -> None:
    statements = [["", "diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"]]
    for number, name in enumerate(NAMES):
        cells = [f"S{number}", "1.0", "", "", f"C{number}", f"C{number}"]
        cells[column] = name
        statements.append(cells)
    database = [["ecg_id", "patient_id", "scp_codes", "strat_fold"]]
    database += [[str(k), str(k), str({row[0]: 100.0}), "1"] for k, row in enumerate(statements[1:], start=1)]
    task = {0: "diagnostic", 4: "superdiagnostic", 5: "subdiagnostic"}[column]
    labels = ptbxl_labels(write(tmp_path / "d.csv", *database), write(tmp_path / "s.csv", *statements), task)
    assert labels.classes == tuple(sorted(NAMES)) and labels.dropped == 0
    assert [labels.classes[row.argmax()] for row in labels.matrix] == NAMES


def test_a_file_of_ptbxl_may_have_any_name_and_a_number_may_be_missing(tmp_path: Path) -> None:
    rows = [[str(k), str(k), "{}", "1", name, "n/a", "5"] for k, name in enumerate(NAMES)]
    rows[3][5] = "61.5"
    rows[4][6] = "none given"
    header = ["ecg_id", "patient_id", "scp_codes", "strat_fold", "filename_lr", "age", "device"]
    table = read_database(write(tmp_path / "d.csv", header, *rows))
    assert table["filename_lr"].tolist() == NAMES
    assert table["age"].count() == 1 and table["age"][3] == 61.5
    assert table["device"].tolist()[3:6] == ["5", "none given", "5"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([["S1", "1.0", "", "", "A", "A"], ["", "1.0", "", "", "B", "B"]], "row 2 names no statement"),
        ([["S1", "1.0", "", "", "A", "A", ""]], "its rows have more fields than its header line"),
    ],
)
def test_a_statement_without_a_name_and_a_row_too_long_are_refused(
    tmp_path: Path, rows: list[list[str]], expected: str
) -> None:
    header = ["", "diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"]
    with pytest.raises(UserError, match=expected):
        read_statements(write(tmp_path / "s.csv", header, *rows))


def test_numbers_of_patients_that_a_float_cannot_hold_are_refused(tmp_path: Path) -> None:
    header = ["ecg_id", "patient_id", "scp_codes", "strat_fold"]
    rows = [["1", "90071992547409931.0", "{}", "1"], ["2", "90071992547409932.0", "{}", "1"]]
    with pytest.raises(UserError, match="column patient_id has numbers above 9007199254740992"):
        read_database(write(tmp_path / "d.csv", header, *rows))


@pytest.fixture
def folder(tmp_path: Path, write_record: Callable[..., Path]) -> Folder:
    """A record for each of the names, which is also its class, its patient and a column of 0 and 1."""
    root = tmp_path / "mine"
    root.mkdir()
    rows = [["path", "labels", "who", *PLAIN]]
    for number, name in enumerate(PLAIN):
        write_record(root, f"r{number}", np.full((12, 1000), number))
        rows.append([f"r{number}", name, name, *("1" if other == name else "0" for other in PLAIN)])
    write(root / "labels.csv", *rows)
    return Folder(root, 100, tmp_path / "cache", patient_column="who")


def test_classes_and_patients_of_a_folder_keep_their_names(folder: Folder) -> None:
    table = folder.open().table
    labels = folder.labels(table, "columns")
    assert labels.classes == tuple(sorted(PLAIN)) and labels.dropped == 0
    assert [labels.classes[row.argmax()] for row in labels.matrix] == PLAIN
    assert table["patient_id"].nunique() == len(PLAIN)  # 001 is not 1, nan is not null


def test_columns_of_a_folder_keep_their_names(folder: Folder) -> None:
    columns = Folder(folder.root, 100, folder.cache, label_column=None, class_columns=PLAIN)
    labels = columns.labels(columns.open().table, "columns")
    assert [labels.classes[row.argmax()] for row in labels.matrix] == PLAIN


def test_a_row_may_lack_fields_at_its_end(folder: Folder) -> None:
    lines = (Path(folder.root) / "labels.csv").read_text().splitlines()
    (Path(folder.root) / "labels.csv").write_text("\n".join([lines[0], "r0", "r1,AF"]))
    labels = Folder(folder.root, 100, folder.cache).open().table["classes"].tolist()
    assert labels == ["", "AF"]


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("path,labels,labels", "r0,AF,LBBB", "2 columns named 'labels'; expected one"),
        ("path,labels,path", "r0,AF,r1", "2 columns named 'path'; expected one"),
        ("path,labels", "r0,AF,", "not a CSV table with a header line .*Expected 2 fields in line 2, saw 3"),
    ],
)
def test_columns_that_could_be_confused_are_refused(folder: Folder, header: str, row: str, expected: str) -> None:
    (Path(folder.root) / "labels.csv").write_text(f"{header}\n{row}\n")
    with pytest.raises(UserError, match=expected):
        Folder(folder.root, 100, folder.cache).open()


def test_files_that_were_left_out_keep_their_names(tmp_path: Path, write_record: Callable[..., Path]) -> None:
    names = ["NA", "001", "1e5", "null"]
    for name in names:
        (tmp_path / f"{name}.hea").write_text("no header")
    write_record(tmp_path, "good", np.zeros((12, 1000)))
    count = len(names) + 1
    table = pd.DataFrame({"ecg_id": range(count), "patient_id": 1, "strat_fold": 1, "source": "x"})
    plan = Plan("names", [tmp_path / name for name in (*names, "good")], table, 100, on_error="quarantine")
    store = open_or_build(plan, tmp_path / "cache")
    assert store.quarantine["file"].tolist() == names and store.quarantine["ecg_id"].tolist() == [0, 1, 2, 3]
    nothing = pd.DataFrame({"ecg_id": [4], "findings": [[]], "severity": [""]})
    assert update_quarantine(store, nothing)["file"].tolist() == names
    assert open_or_build(plan, tmp_path / "cache").quarantine["file"].tolist() == names


def test_a_column_of_numbers_stays_one(tmp_path: Path) -> None:
    file = write(tmp_path / "t.csv", ["a", "b", "c"], ["1", "1.5", "True"], ["NA", "", ""], ["3", "nan", "False"])
    table = read_typed(file, (), "expected a table")
    assert table["a"].tolist()[::2] == [1, 3] and table["b"].dtype == float
    assert table["c"].tolist()[::2] == [True, False]
