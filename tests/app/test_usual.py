"""Remarks about values outside of the usual range of adults."""

from __future__ import annotations

from typing import Any

import pytest

from einthoven.app.usual import with_remarks

USUAL = {"heart_rate": 71.0, "pr": 150.0, "qrs": 90.0, "axis": 30.0}


def remarks(age: float | None = None, notes: list[str] | None = None, **values: float | None) -> dict[str, list[str]]:
    """Return the remarks of each measurement that has some."""
    entries: dict[str, dict[str, Any]] = {name: {"value": value} for name, value in {**USUAL, **values}.items()}
    if notes:
        entries["qrs"]["notes"] = notes
    axis = entries.pop("axis")
    found = with_remarks({**entries, "axes": {"qrs": axis}}, age)
    assert not any("usual" in note for entry in entries.values() for note in entry.get("notes", [])), "a copy is made"
    named = {**found, "axis": found["axes"]["qrs"]}
    return {name: named[name]["notes"] for name in USUAL if "notes" in named[name]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({"heart_rate": 59.6}, {}),  # printed as 60
        ({"heart_rate": 48.0}, {"heart_rate": ["usual in adults: 60 to 100 per minute"]}),
        ({"heart_rate": 101.0}, {"heart_rate": ["usual in adults: 60 to 100 per minute"]}),
        ({"pr": 201.0}, {"pr": ["usual in adults: 120 to 200 ms"]}),
        ({"pr": None}, {}),
        ({"axis": 104.0}, {"axis": ["usual in adults: -30° to 90°"]}),
    ],
)
def test_a_value_outside_of_its_range_gets_a_remark(values: dict[str, Any], expected: dict[str, list[str]]) -> None:
    assert remarks(**values) == expected


def test_remarks_stand_behind_other_notes() -> None:
    assert remarks(qrs=120.0, notes=["a note"])["qrs"] == ["a note", "usual in adults: below 120 ms"]


def test_a_child_gets_no_remark() -> None:
    assert remarks(12.0, heart_rate=130.0) == {}
    assert remarks(18.0, heart_rate=130.0) != {}
