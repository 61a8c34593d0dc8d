"""Names of classes as parts of names: one to one, readable, and taken by MLflow."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric, _validate_param

from einthoven.functional.class_names import MAX_PART_BYTES, is_name, name_of, part, parts

HOSTILE = [
    "",
    " ",
    "  a",
    " a",
    "a ",
    "a  b",
    ".",
    "..",
    "...",
    "a..b",
    "/",
    "//",
    "AF//RBBB",
    "b/",
    "/b",
    "../../etc/passwd",
    "ST>1",
    "ST<1",
    "ST 1",
    "ST_1",
    "ST.gt.1",
    "NORM..0123456789ab",
    "a\nb",
    "a\x85b",
    "a\u2028b",
    "\x00",
    "\ud800",
    "\u200b",
    "é",
    "é",
    "m²",
    "m2",
    "Ａ",
    "𝐀",
    "心房颤动",
    "♥",
    "|",
    "$x$",
    "[/red]",
    "x" * 260,
    "x" * 261,
    "X" * 260,
    "/" * 260,
    "é" * 200,
]


@pytest.mark.parametrize("name", ["NORM", "MI", "1AVB", "AF_1", "non-specific", "sinus rhythm", "Größe", "心房"])
def test_a_plain_name_stays(name: str) -> None:
    assert part(name) == name and part(part(name)) == name


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("", ".empty"),
        ("ST>1", "ST.gt.1"),
        ("ST<1", "ST.lt.1"),
        ("ST>", "ST.gt"),
        (">ST", ".gt.ST"),
        ("AF//RBBB", "AF.slash..slash.RBBB"),
        (".", ".dot"),
        ("b/", "b.slash"),
        (" a", ".space.a"),
        ("1. AV block", "1.dot. AV block"),
        ("a  b", "a .space.b"),
        ("♥", ".u2665"),
        ("Ａ", ".uff21"),
    ],
)
def test_other_characters_become_words(name: str, written: str) -> None:
    assert part(name) == written and name_of(written) == name


names = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(alphabet=st.characters(codec=None), max_size=40),
    st.text("aAéE./ >_..", max_size=12),
)


@given(names, names)
@example("ST>", "ST.gt")
@example("NORM", "NORM..0123456789ab")
def test_two_names_never_have_one_part(one: str, other: str) -> None:
    assert (part(one) == part(other)) == (one == other)


@given(names)
def test_a_part_is_taken_and_leads_back_to_its_name(name: str) -> None:
    written = part(name)
    _validate_metric(f"val/calibration_gap/{written}", 0.5, 0, 0)
    _validate_metric(written, 0.5, 0, 0)
    _validate_param(written, "x")
    assert "/" not in written and not written.endswith((".", " ")) and len(written.encode()) <= MAX_PART_BYTES
    assert written.isprintable() and written == unicodedata.normalize("NFKC", written)
    back = name_of(written)
    assert back == name or (back.endswith("…") and name.startswith(back[:-1]))


@given(st.lists(names, max_size=12))
def test_a_set_of_names_has_parts_that_no_system_takes_for_one_another(several: list[str]) -> None:
    given_parts = parts(several)
    assert list(given_parts) == list(dict.fromkeys(several))
    assert parts(reversed(several)) == given_parts
    plain = [unicodedata.normalize("NFKD", each.casefold()) for each in given_parts.values()]
    assert len({"".join(c for c in each if not unicodedata.combining(c)) for each in plain}) == len(given_parts)
    for name, written in given_parts.items():
        _validate_metric(f"val/auroc/{written}", 0.5, 0, 0)
        back = name_of(written)
        assert back == name or (back.endswith("…") and name.startswith(back[:-1]))


def test_of_names_that_differ_in_case_the_first_stays_and_the_others_get_a_hash() -> None:
    found = parts(["norm", "NORM", "Norm", "MI"])
    assert found["NORM"] == "NORM" and found["MI"] == "MI"
    assert found["norm"].startswith("norm..") and found["Norm"].startswith("Norm..")
    assert [name_of(written) for written in found.values()] == ["norm", "NORM", "Norm", "MI"]


@pytest.mark.parametrize("name", ["NORM", "AV\u00a0block", "心房細動", "a b", "x" * 1000])
def test_what_can_be_shown_is_a_name(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", " ", "\u00a0", "a\nb", "a\rb", "a\tb", "a\x1b[31mb", "a\u2028b", "x" * 1001, None, 3]
)
def test_what_cannot_be_shown_is_none(name: object) -> None:
    assert not is_name(name)
