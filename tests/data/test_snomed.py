from __future__ import annotations

import csv
from pathlib import Path

import pytest

from einthoven.data.sources.snomed import (
    LABEL_SETS,
    SCP,
    TEXTS,
    annotated,
    class_of_statement,
    classes_of,
    diagnoses,
    parse_diagnoses,
)
from einthoven.errors import UserError

ORIGIN = {
    "CPSC": "cpsc2018",
    "CPSC_Extra": "cpsc2018_extra",
    "StPetersburg": "st_petersburg",
    "PTB": "ptb",
    "PTB_XL": "ptbxl",
    "Georgia": "georgia",
    "Chapman_Shaoxing": "chapman_shaoxing",
    "Ningbo": "ningbo",
}


def test_the_table_is_that_of_the_challenge(real_data: Path) -> None:
    folder, seen = real_data / "cinc2021-tables", set()
    weights = (folder / "weights.csv").read_text().splitlines()[0].split(",")[1:]
    equal = {code: group for group in weights for code in group.split("|")}
    for scored in (True, False):
        with (folder / f"dx_mapping_{'' if scored else 'un'}scored.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                code = row["SNOMEDCTCode"]
                found = diagnoses()[code]
                seen.add(code)
                assert found.name == " ".join(row["Dx"].split())
                assert found.annotated_by == {ours for theirs, ours in ORIGIN.items() if int(row[theirs]) > 0}
                assert bool(found.classes["cinc2021"]) == scored
                if scored:  # equivalents have one class, others have others
                    group = {c for c in equal if diagnoses()[c].classes["cinc2021"] == found.classes["cinc2021"]}
                    assert group == {c for c in equal if equal[c] == equal[code]}
    assert seen == set(diagnoses())


def test_the_classes_speak_the_language_of_ptbxl(real_data: Path) -> None:
    with (real_data / "ptbxl" / "scp_statements.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    superclasses = {row["diagnostic_class"] for row in rows} - {""}
    rhythms = {row[""] for row in rows if row["rhythm"]}
    assert {d.classes["superdiagnostic"] for d in diagnoses().values()} - {""} == superclasses
    assert {d.classes["rhythm"] for d in diagnoses().values()} - {""} <= rhythms


def test_in_ptbxl_sinus_rhythm_and_nothing_else_is_always_norm(real_data: Path) -> None:
    """The ground of the rule for NORM."""
    from einthoven.data.sources.labels import parse_codes, read_database

    codes = [set(c) for c in parse_codes(read_database(real_data / "ptbxl-metadata" / "ptbxl_database.csv"))]
    sinus = [c for c in codes if c & {"SR", "SBRAD", "STACH", "SARRH"}]
    alone = [c for c in sinus if c <= {"NORM", "SR", "SBRAD", "STACH", "SARRH"}]
    assert len(alone) > 7000 and all("NORM" in c for c in alone)


def test_every_choice_has_its_reason() -> None:
    from importlib.resources import files

    rows = list(csv.DictReader((files("einthoven.data.sources") / "snomed.csv").read_text().splitlines()))
    assert all(row["why"] for row in rows if row["superdiagnostic"] or row["rhythm"])


@pytest.mark.parametrize(
    ("text", "classes"),
    [("AF", "AF"), ("I-AVB", "IAVB"), ("LBBB", "LBBB"), ("RBBB", "RBBB"), ("PAC", "PAC"), ("Normal", "NSR")],
)
def test_texts_of_cpsc_mean_their_codes(text: str, classes: str) -> None:
    assert classes_of(parse_diagnoses(text, "A0001"), "cinc2021") == {classes}


def test_every_text_has_a_code_of_the_challenge() -> None:
    assert set(TEXTS.values()) <= set(diagnoses()) and len(TEXTS) == 9


def test_codes_are_read_in_order_once_and_unknown_ones_kept() -> None:
    assert parse_diagnoses("426783006, 164889003 ,426783006,123", "x") == ("426783006", "164889003", "123")
    assert parse_diagnoses("Unknown", "x") == parse_diagnoses("", "x") == ()
    with pytest.raises(UserError, match=r"x\.hea: diagnosis 'flu' is unknown; expected SNOMED-CT codes, or one of"):
        parse_diagnoses("426783006,flu", "x.hea")


def test_norm_is_sinus_rhythm_and_nothing_else() -> None:
    assert classes_of(("426783006",), "superdiagnostic") == {"NORM"}
    assert classes_of(("426177001", "427393009"), "superdiagnostic") == {"NORM"}
    assert classes_of(("426783006", "284470004"), "superdiagnostic") == set()
    assert classes_of(("426783006", "59118001"), "superdiagnostic") == {"CD"}
    assert classes_of((), "superdiagnostic") == classes_of(("999",), "superdiagnostic") == set()


def test_who_annotates_what() -> None:
    assert annotated("superdiagnostic", "cpsc2018") == {"CD", "NORM", "STTC"}
    assert "AFIB" not in annotated("rhythm", "ningbo")
    assert len(annotated("cinc2021", "cpsc2018")) == 26
    assert all(annotated(name, "georgia") for name in LABEL_SETS)


def test_statements_and_their_codes_are_of_one_superclass(real_data: Path) -> None:
    with (real_data / "ptbxl" / "scp_statements.csv").open(newline="") as file:
        rows = {row[""]: row for row in csv.DictReader(file)}
    assert set(SCP) <= set(rows)
    found = class_of_statement("superdiagnostic")
    form_only = {"INVT", "STD_", "STE_", "TAB_"}  # an ST or T change that the record states is STTC
    for statement in set(SCP) - form_only - {"SR"}:
        assert found.get(statement, "") == rows[statement]["diagnostic_class"], statement
    rhythm = class_of_statement("rhythm")
    assert all(rhythm[name] == name for name in SCP if rows[name]["rhythm"])
    assert class_of_statement("cinc2021")["LAFB"] == "LAnFB"
