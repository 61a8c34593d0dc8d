"""The model card: what it must warn of, and of nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from einthoven.report.model_card import Share, Subject, limits, model_card

SHARE = Share("train", "1", 500, 400, (40.0, 60.0, 70.0), 0.5, {"A": 100, "B": 90})
SUBJECT = Subject(
    "run|1",
    "Network",
    12_345,
    ("I", "II"),
    100.0,
    10.0,
    "task",
    False,
    ("hospital",),
    (SHARE, replace(SHARE, split="fit"), replace(SHARE, split="report")),
    {"seed": 0},
    {"made by": "einthoven", "commit": ""},
)
INTERVAL = {"low": 0.8, "high": 0.9, "resamples": 1000}


def found(**changes: Any) -> dict[str, Any]:
    metrics = {"macro_auroc": 0.85, "auroc/A": 0.84, "auroc/B": 0.86}
    metrics |= {f"{m}/{when}": 0.5 for m in ("nll", "brier", "ece") for when in ("before", "after")}
    return {
        "folds": {"train": [1], "fit": [2], "report": [3]},
        "records": 500,
        "interval": {"level": 0.95, "method": "bca", "by": "patient"},
        "metrics": metrics,
        "macro_auroc": INTERVAL,
        "auroc": {"A": INTERVAL, "B": INTERVAL},
        "calibration": {"method": "temperature"},
        "operating_points": {},
        "subgroups": [],
    } | changes


def group(gap: float, low: float, high: float, small: bool = False) -> dict[str, Any]:
    intervals = [{"low": low, "high": high}, {"low": -0.1, "high": 0.1}]
    return {"attribute": "sex", "value": "female", "records": 9, "patients": 9, "small": small, "auroc": None} | {
        "auroc_interval": None,
        "gap": [gap, 0.0],
        "gap_intervals": intervals,
    }


def test_synthetic_records_are_said_to_be() -> None:
    assert not any("computed" in line for line in limits(SUBJECT, found()))
    assert any("computed" in line for line in limits(replace(SUBJECT, sources=("synthetic",)), found()))


def test_rare_and_absent_classes_are_named() -> None:
    assert not any("Fewer than" in line or "Not evaluated" in line for line in limits(SUBJECT, found()))
    rare = replace(SUBJECT, shares=(SHARE, SHARE, replace(SHARE, split="report", positives={"A": 29, "B": 30})))
    assert any("Fewer than 30" in line and "A (29)" in line and "B" not in line for line in limits(rare, found()))
    absent = limits(SUBJECT, found(auroc={"A": INTERVAL, "B": None}))
    assert any(line.startswith("Not evaluated") and line.endswith(": B.") for line in absent)


def test_a_gap_is_told_where_it_is_large_and_beyond_chance() -> None:
    told = {
        case: any("observed share" in line for line in limits(SUBJECT, found(subgroups=[group(*case)])))
        for case in ((0.2, 0.1, 0.3), (-0.2, -0.3, -0.1), (0.2, -0.1, 0.5), (0.04, 0.01, 0.07), (0.2, 0.1, 0.3, True))
    }
    assert list(told.values()) == [True, True, False, False, False]


def test_who_is_not_known_and_who_is_missing_are_told() -> None:
    unknown = replace(SUBJECT, shares=(replace(SHARE, age=None, female=None), *SUBJECT.shares[1:]))
    assert any("age, sex" in line for line in limits(unknown, found()))
    young = replace(SUBJECT, shares=(replace(SHARE, age=(9.0, 12.0, 15.0)), *SUBJECT.shares[1:]))
    assert not any("Three quarters" in line for line in limits(young, found()))
    assert any("Three quarters" in line for line in limits(SUBJECT, found()))


def test_tables_are_whole_whatever_the_names() -> None:
    card = model_card(replace(SUBJECT, options={"a|b": "c|d"}), found())
    tables = [block.splitlines() for block in card.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.replace(r"\|", "").count("|") for line in table}) == 1
    assert "commit" not in card  # what is not known is left out
