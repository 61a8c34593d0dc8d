"""Names of leads as they stand in files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.functional.leads import LEADS, canonical_lead


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AVR", ("aVR", 1)),
        ("avr", ("aVR", 1)),
        ("MDC_ECG_LEAD_V1", ("V1", 1)),
        ("MDC_ECG_LEAD_AVF", ("aVF", 1)),
        ("ECG Lead II", ("II", 1)),
        ("Lead aVF", ("aVF", 1)),
        ("Lead I (Einthoven)", ("I", 1)),
        ("ECG I", ("I", 1)),
        ("EKG_V6", ("V6", 1)),
        ("lead: v 3", ("V3", 1)),
        ("DII", ("II", 1)),
        ("-aVR", ("aVR", -1)),
        ("\N{MINUS SIGN}AVR", ("aVR", -1)),
        ("Lead -aVR", ("aVR", -1)),
        ("- aVR", ("aVR", -1)),
        ("Lead-I", ("I", 1)),
        ("ECG-V1", ("V1", 1)),
        ("ekg_lead-aVR", ("aVR", 1)),
        ("Lead - I", None),
        ("V7", None),
        ("V3R", None),
        ("X", None),
        ("MLII", None),
        ("V12", None),
        ("1", None),
        ("Lead 1", None),
        ("ECG", None),
        ("EDF Annotations", None),
        ("V1-V2", None),
        ("", None),
    ],
)
def test_names_of_files(name: str, expected: tuple[str, int] | None) -> None:
    assert canonical_lead(name) == expected


@given(
    st.sampled_from(LEADS),
    st.sampled_from(["", "Lead ", "ECG ", "ecg lead ", "MDC_ECG_LEAD_", "  "]),
    st.booleans(),
    st.data(),
)
def test_case_blanks_and_prefix_do_not_matter(lead: str, prefix: str, minus: bool, data: st.DataObject) -> None:
    letters = [data.draw(st.sampled_from([c.lower(), c.upper()])) for c in lead]
    blanks = [data.draw(st.sampled_from(["", " "])) for _ in lead]
    if minus and prefix.strip():
        blanks[0] = ""
    name = prefix + "-" * minus + "".join(b + c for b, c in zip(blanks, letters, strict=True)) + " "
    assert canonical_lead(name) == (lead, -1 if minus else 1)


@given(st.text(max_size=30))
def test_any_text_has_an_answer(name: str) -> None:
    known = canonical_lead(name)
    assert known is None or (known[0] in LEADS and known[1] in (1, -1))
