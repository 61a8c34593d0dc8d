"""From the names of a file's signals to the leads that are wanted."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.data.formats.channels import LeadMap, lead_map, millivolts
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS, derive_limb_leads

EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


def apply(mapping: LeadMap, signals: np.ndarray) -> np.ndarray:
    return np.stack([*mapping.rows(signals, np.ones(len(signals)))])


@pytest.fixture
def twelve() -> np.ndarray:
    rng = np.random.default_rng(0)
    i, ii = rng.normal(size=(2, 40))
    return np.concatenate([derive_limb_leads(i, ii), rng.normal(size=(6, 40))])


@given(st.permutations(range(12)), st.lists(st.booleans(), min_size=12, max_size=12))
def test_any_order_and_case_is_a_permutation(order: list[int], upper: list[bool]) -> None:
    names = tuple(LEADS[k].upper() if up else LEADS[k].lower() for k, up in zip(order, upper, strict=True))
    found = lead_map(names, LEADS, "a")
    assert found.order is not None and found.notes == ()
    assert [order[column] for column in found.order] == list(range(12))
    signals = np.random.default_rng(0).normal(size=(12, 5))
    np.testing.assert_array_equal(found.matrix @ signals, apply(found, signals))


def test_eight_leads_give_twelve(twelve: np.ndarray) -> None:
    found = lead_map(EIGHT, LEADS, "a")
    assert found.order is None and found.notes == ("III, aVR, aVL, aVF derived from I and II",)
    np.testing.assert_allclose(apply(found, twelve[[0, 1, *range(6, 12)]]), twelve, atol=1e-15)


@given(st.sets(st.sampled_from(LEADS[:6]), min_size=2))
def test_any_two_limb_leads_give_all_six(given_leads: set[str]) -> None:
    names = tuple(sorted(given_leads)) + LEADS[6:]
    rng = np.random.default_rng(1)
    full = np.concatenate([derive_limb_leads(*rng.normal(size=(2, 20))), rng.normal(size=(6, 20))])
    signals = full[[LEADS.index(name) for name in names]]
    np.testing.assert_allclose(apply(lead_map(names, LEADS, "a"), signals), full, atol=1e-12)


def test_fifteen_leads_are_dropped_by_name(twelve: np.ndarray) -> None:
    names = ("V7", *LEADS, "V3R", "Z")
    signals = np.concatenate([twelve[:1] * 9, twelve, twelve[:2] * 7])
    found = lead_map(names, LEADS, "a")
    assert found.order == tuple(range(1, 13))
    assert found.notes == ("dropped 'V7', 'V3R', 'Z': not among the twelve leads",)
    np.testing.assert_array_equal(apply(found, signals), twelve)


def test_a_minus_sign_turns_the_lead_back(twelve: np.ndarray) -> None:
    names = tuple("-aVR" if lead == "aVR" else lead for lead in LEADS)
    signals = twelve.copy()
    signals[3] *= -1
    found = lead_map(names, LEADS, "a")
    assert found.order is None and found.notes == ("inverted: '-aVR' to aVR",)
    np.testing.assert_array_equal(apply(found, signals), twelve)
    derived = apply(lead_map(("-aVR", "I"), ("II",), "a"), signals[[3, 0]])
    np.testing.assert_allclose(derived[0], twelve[1], atol=1e-15)


def test_other_names_are_noted() -> None:
    assert lead_map(("MDC_ECG_LEAD_V1", "v2"), ("V2", "V1"), "a").notes == ("read 'MDC_ECG_LEAD_V1' as V1",)


def test_a_subset_needs_only_what_it_needs(twelve: np.ndarray) -> None:
    found = lead_map(("II", "I"), ("aVF", "I"), "a")
    np.testing.assert_allclose(apply(found, twelve[[1, 0]]), twelve[[5, 0]], atol=1e-15)
    assert lead_map(("II",), ("II",), "a").order == (0,)


def test_nan_stays_in_its_own_lead(twelve: np.ndarray) -> None:
    signals = twelve[[0, 1, *range(6, 12)]]
    signals[7, 3] = np.nan
    signals[0, 5] = np.nan
    found = apply(lead_map(EIGHT, LEADS, "a"), signals)
    assert np.flatnonzero(np.isnan(found[:, 3])).tolist() == [11]
    assert np.flatnonzero(np.isnan(found[:, 5])).tolist() == [0, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("names", "want", "sentence"),
    [
        ((*LEADS, "avr"), LEADS, "x.csv: lead aVR is named twice, as 'aVR' and 'avr'; expected each lead once."),
        ((*LEADS, "-aVR"), LEADS, "named twice, as 'aVR' and '-aVR'"),
        (
            ("I", *LEADS[6:]),
            LEADS,
            "x.csv: leads II, III, aVR, aVL, aVF missing: found 'I V1 V2 V3 V4 V5 V6', expected",
        ),
        (LEADS[:11], LEADS, "x.csv: lead V6 missing: found"),
        (("I", "II"), ("aVF", "V2"), "lead V2 missing: found 'I II', expected aVF V2."),
        ((), ("I",), "lead I missing: found no leads, expected I"),
        (("ch1", "ch2"), ("I", "II"), "leads I, II missing: found 'ch1 ch2'"),
    ],
)
def test_what_is_missing_or_doubled_is_named(names: tuple[str, ...], want: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        lead_map(names, want, "x.csv")


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("mV", 1.0),
        ("mv", 1.0),
        ("uV", 1e-3),
        ("µV", 1e-3),
        ("μV", 1e-3),
        ("nV", 1e-6),
        ("V", 1e3),
        ("Microvolt", 1e-3),
        (" MV ", 1.0),
    ],
)
def test_units(unit: str, scale: float) -> None:
    assert millivolts(unit, "a", "I") == scale


@pytest.mark.parametrize(
    ("unit", "found"), [("", "no unit"), ("mmHg", "unknown unit 'mmHg'"), ("m", "unknown unit 'm'")]
)
def test_other_units_are_refused(unit: str, found: str) -> None:
    with pytest.raises(UserError, match=f"x.csv: lead V2: {found}; expected mV, uV, nV or V."):
        millivolts(unit, "x.csv", "V2")
