"""Labels: the benchmark's counts on the real table, its rules on small ones, and damaged tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einthoven.data.sources.labels import (
    TASKS,
    Labels,
    label_matrix,
    parse_codes,
    ptbxl_labels,
    read_database,
    read_statements,
    select_labels,
)
from einthoven.errors import UserError

# task: classes, train records, validation records, train positives, validation positives (PTB-XL v1.0.1)
GOLDEN = {
    "all": (71, 17441, 2193, 48899, 6113),
    "diagnostic": (44, 17111, 2156, 24616, 3088),
    "subdiagnostic": (23, 17111, 2156, 24251, 3038),
    "superdiagnostic": (5, 17111, 2156, 22222, 2803),
    "form": (19, 7202, 904, 9631, 1194),
    "rhythm": (12, 16854, 2109, 16971, 2121),
}


@pytest.fixture(scope="module")
def tables(real_data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    folder = real_data / "ptbxl-metadata"
    return read_database(folder / "ptbxl_database.csv"), read_statements(folder / "scp_statements.csv")


@pytest.fixture(scope="module")
def golden(tables: tuple[pd.DataFrame, pd.DataFrame]) -> dict[str, Labels]:
    return {task: select_labels(*tables, task) for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_golden_counts(golden: dict[str, Labels], task: str) -> None:
    labels = golden[task]
    train, val = labels.folds <= 8, labels.folds == 9
    found = (len(labels.classes), train.sum(), val.sum(), labels.matrix[train].sum(), labels.matrix[val].sum())
    assert found == GOLDEN[task]
    assert labels.matrix.shape == (train.sum() + val.sum(), GOLDEN[task][0])
    assert labels.dropped == 19634 - len(labels.matrix)
    assert labels.classes == tuple(sorted(labels.classes))
    assert (labels.matrix.sum(axis=0) > 0).all() and (labels.matrix.sum(axis=1) > 0).all()


def test_golden_counts_of_each_superclass(golden: dict[str, Labels]) -> None:
    labels = golden["superdiagnostic"]
    assert labels.classes == ("CD", "HYP", "MI", "NORM", "STTC")
    assert labels.matrix[labels.folds <= 8].sum(axis=0).tolist() == [3912, 2121, 4389, 7607, 4193]
    assert labels.matrix[labels.folds == 9].sum(axis=0).tolist() == [497, 271, 544, 957, 534]


def test_sets_of_statements_overlap_as_published(golden: dict[str, Labels]) -> None:
    names = {task: set(labels.classes) for task, labels in golden.items()}
    assert names["diagnostic"] | names["form"] | names["rhythm"] == names["all"]
    assert len(names["diagnostic"] & names["form"]) == 4  # 44 + 19 + 12 - 4 = 71


def test_folds_keep_patients_together(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    assert tables[0].groupby("patient_id")["strat_fold"].nunique().max() == 1


def test_reading_by_path_equals_reading_the_tables(real_data: Path, golden: dict[str, Labels]) -> None:
    folder = real_data / "ptbxl-metadata"
    labels = ptbxl_labels(folder / "ptbxl_database.csv", folder / "scp_statements.csv", "form")
    np.testing.assert_array_equal(labels.matrix, golden["form"].matrix)
    np.testing.assert_array_equal(labels.ecg_ids, golden["form"].ecg_ids)
    assert (np.diff(labels.ecg_ids) > 0).all()


# ---------------------------------------------------------------- rules on small tables

STATEMENTS = pd.DataFrame(
    {
        "diagnostic": [1.0, 1.0, 1.0, 1.0, np.nan, np.nan],
        "form": [np.nan, np.nan, np.nan, 1.0, 1.0, np.nan],
        "rhythm": [np.nan, np.nan, np.nan, np.nan, np.nan, 1.0],
        "diagnostic_class": ["NORM", "MI", "MI", "STTC", np.nan, np.nan],
        "diagnostic_subclass": ["NORM", "AMI", "IMI", "STTC", np.nan, np.nan],
    },
    index=["NORM", "ASMI", "IMI", "NDT", "PVC", "SR"],
)


def database(codes: Sequence[dict[str, float]]) -> pd.DataFrame:
    n = len(codes)
    return pd.DataFrame(
        {
            "ecg_id": np.arange(1, n + 1),
            "patient_id": np.arange(1, n + 1),
            "scp_codes": [str(c) for c in codes],
            "strat_fold": np.arange(n) % 10 + 1,
        }
    )


CODES = [
    {"NORM": 100.0, "SR": 0.0},
    {"ASMI": 15.0, "IMI": 80.0},
    {"PVC": 20.0},
    {"SR": 0.0},
    {},
    {"NDT": 0.0, "XYZ": 100.0},
]


def names(task: str, codes: Sequence[dict[str, float]] = CODES, **options: bool | float) -> list[list[str]]:
    """The classes of each record that is kept."""
    labels = select_labels(database(codes), STATEMENTS, task, **options)  # type: ignore[arg-type]
    assert labels.dropped + len(labels.matrix) == len(codes)
    return [[name for name, on in zip(labels.classes, row, strict=True) if on] for row in labels.matrix]


def test_the_likelihood_does_not_count_by_default() -> None:
    assert names("diagnostic") == [["NORM"], ["ASMI", "IMI"], ["NDT"]]


def test_statements_of_one_class_count_once() -> None:
    assert names("superdiagnostic") == [["NORM"], ["MI"], ["STTC"]]
    assert names("subdiagnostic") == [["NORM"], ["AMI", "IMI"], ["STTC"]]


def test_form_and_rhythm_take_their_columns() -> None:
    assert names("form") == [["PVC"], ["NDT"]]
    assert names("rhythm") == [["SR"], ["SR"]]


def test_all_takes_every_key_known_or_not() -> None:
    assert names("all") == [["NORM", "SR"], ["ASMI", "IMI"], ["PVC"], ["SR"], ["NDT", "XYZ"]]


def test_min_likelihood_leaves_out_what_is_known_to_be_unlikely() -> None:
    assert names("diagnostic", min_likelihood=50) == [["NORM"], ["IMI"], ["NDT"]]  # NDT: 0 means unknown
    assert names("diagnostic", min_likelihood=15) == names("diagnostic")  # not below, so kept
    assert ["PVC"] in names("form", min_likelihood=50)  # not a diagnostic statement
    assert ["IMI"] in names("all", min_likelihood=50)


def test_a_class_without_a_positive_record_is_dropped() -> None:
    assert select_labels(database(CODES), STATEMENTS, "diagnostic", min_likelihood=50).classes == ("IMI", "NDT", "NORM")


def test_keep_unlabelled_keeps_every_record_in_place() -> None:
    assert names("superdiagnostic", keep_unlabelled=True) == [["NORM"], ["MI"], [], [], [], ["STTC"]]


def test_single_label_keeps_records_with_exactly_one_label() -> None:
    assert names("diagnostic", single_label=True) == [["NORM"], ["NDT"]]
    assert names("superdiagnostic", single_label=True) == [["NORM"], ["MI"], ["STTC"]]
    assert all(len(row) == 1 for row in names("all", single_label=True, keep_unlabelled=True))


def test_single_label_leaves_no_class_without_a_record() -> None:
    labels = select_labels(database(CODES), STATEMENTS, "diagnostic", single_label=True)
    assert labels.classes == ("NDT", "NORM") and (labels.matrix.sum(axis=0) > 0).all()
    with pytest.raises(UserError, match="exactly one"):
        select_labels(database(CODES[1:2]), STATEMENTS, "diagnostic", single_label=True)


def test_rows_keep_their_record_fold_and_patient() -> None:
    labels = select_labels(database(CODES), STATEMENTS, "rhythm")
    assert labels.ecg_ids.tolist() == [1, 4] and labels.patients.tolist() == [1, 4] and labels.folds.tolist() == [1, 4]
    assert labels.matrix.dtype == np.uint8


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.sampled_from([*STATEMENTS.index, "XYZ"]), st.floats(0, 100)), min_size=1))
def test_brute_force_agrees(codes: list[dict[str, float]]) -> None:
    mapping = {"NORM": "NORM", "ASMI": "MI", "IMI": "MI", "NDT": "STTC"}
    expected = [sorted({mapping[k] for k in c if k in mapping}) for c in codes]
    expected = [row for row in expected if row]
    if expected:
        assert names("superdiagnostic", codes) == expected
    else:
        with pytest.raises(UserError, match="none of the"):
            names("superdiagnostic", codes)


# ---------------------------------------------------------------- damage

HEADER = "ecg_id,patient_id,scp_codes,strat_fold,filename_lr,filename_hr\n"
ROW = "1,7.0,\"{'NORM': 100.0}\",3,a_lr,a_hr\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        (HEADER, "no rows"),
        ("ecg_id,patient_id\n1,2\n", "columns scp_codes, strat_fold missing"),
        (HEADER.replace("strat_fold", "fold") + ROW, "column strat_fold missing"),
        (HEADER + ROW.replace(",3,", ",three,"), "column strat_fold"),
        (HEADER + ROW.replace(",3,", ",,"), "column strat_fold"),
        (HEADER + ROW.replace(",3,", ",3.5,"), "column strat_fold"),
        (HEADER + ROW.replace(",3,", ",inf,"), "column strat_fold"),
        (HEADER + ROW.replace("7.0", ""), "column patient_id"),
        (HEADER + ROW.replace("1,", "x,", 1), "column ecg_id"),
        (HEADER + ROW + ROW, "ecg_id 1 stands in more than one row"),
        (HEADER + '1,"unclosed\n', "not a readable CSV table"),
        (HEADER + ROW + "1,2,3,4,5,6,7,8,9\n", "not a readable CSV table"),
        ("\0" * 64, "missing"),
    ],
)
def test_a_damaged_database_is_refused_in_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "ptbxl_database.csv"
    path.write_text(text)
    with pytest.raises(UserError) as refusal:
        read_database(path)
    assert expected in str(refusal.value) and "ptbxl_database.csv" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_other_damage_of_the_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_database(path)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match="not a readable CSV table"):
        read_database(binary)
    statements = tmp_path / "scp_statements.csv"
    statements.write_text(",description\nNORM,normal\n")
    with pytest.raises(UserError, match="columns diagnostic, form"):
        read_statements(statements)


@pytest.mark.parametrize(
    "text",
    [
        "NORM",
        "['NORM']",
        "{'NORM'}",
        "{'NORM': 'high'}",
        "{'NORM': 1",
        "{'NORM': 1" + "0" * 400 + "}",
        "__import__('os')",
        "(" * 500,
        "",
        "{'A': 1e5}; 1",
    ],
)
def test_statements_that_are_no_dict_are_refused(text: str) -> None:
    table = database(CODES)
    table.loc[2, "scp_codes"] = text
    with pytest.raises(UserError, match=r"^record 3: scp_codes .* cannot be read"):
        parse_codes(table)


def test_an_empty_cell_of_statements_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ptbxl_database.csv"
    path.write_text(HEADER + ROW.replace("\"{'NORM': 100.0}\"", ""))
    with pytest.raises(UserError, match=r"^record 1: scp_codes 'nan' cannot be read"):
        parse_codes(read_database(path))


def test_names_of_files_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "ptbxl_database.csv"
    path.write_text(HEADER + ROW.replace("a_lr", "00001"))
    assert read_database(path)["filename_lr"].tolist() == ["00001"]


@pytest.mark.parametrize("name", ["a\rb", "a\x1b[31m", "x" * 1001])
def test_a_class_whose_name_cannot_be_shown_is_refused(name: str) -> None:
    table = pd.DataFrame({"ecg_id": [1, 2], "patient_id": [1, 2], "strat_fold": [1, 2]})
    assert label_matrix(table, [{"AV\u00a0block"}, set()], "mine").classes == ("AV\u00a0block",)
    with pytest.raises(UserError, match=r"class 'a\\r|class 'a\\x1b|class 'xxx") as refusal:
        label_matrix(table, [{name}, set()], "mine")
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 200


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UserError, match="superdiagnostic"):
        select_labels(database(CODES), STATEMENTS, "super")
