from __future__ import annotations

import math

import numpy as np
import pytest

from einthoven.tracking.sweep import group_by_seed, markdown, rows


def child(overrides: str, auroc: float | None, status: str = "FINISHED") -> tuple[str, str, dict[str, float]]:
    return overrides, status, {} if auroc is None else {"val/macro_auroc": auroc}


CHILDREN = [
    child("data=x optimizer=sgd seed=0", 0.7),
    child("data=x optimizer=sgd seed=1", 0.8),
    child("data=x optimizer=adamw seed=0", 0.9),
    child("data=x optimizer=adamw seed=1", None, "FAILED"),
]


def test_runs_are_grouped_by_what_differs_best_first() -> None:
    best, other = group_by_seed(CHILDREN)
    assert (best.overrides, best.runs, best.failed) == ("optimizer=adamw", 2, 1)
    assert other.mean("val/macro_auroc") == pytest.approx(np.mean([0.7, 0.8]))
    assert other.sd("val/macro_auroc") == pytest.approx(np.std([0.7, 0.8], ddof=1))
    assert math.isnan(best.sd("val/macro_auroc"))  # one value has no spread


def test_the_table_tells_mean_spread_and_failures() -> None:
    columns, cells = rows(group_by_seed(CHILDREN))
    assert columns == ["configuration", "runs", "val/macro_auroc (mean ± sd)"]
    assert cells == [["optimizer=adamw", "2 (1 failed)", "0.9000"], ["optimizer=sgd", "2", "0.7500 ± 0.0707"]]
    assert markdown(columns, cells).splitlines()[2] == "| optimizer=adamw | 2 (1 failed) | 0.9000 |"


def test_runs_of_a_quantity_are_compared_by_r2() -> None:
    children = [
        (f"optimizer={name}", "FINISHED", {"val/r2": r2, "val/mae": 5.0}) for name, r2 in (("a", 0.2), ("b", 0.6))
    ]
    found = group_by_seed(children)
    assert [group.overrides for group in found] == ["optimizer=b", "optimizer=a"]
    assert rows(found)[0] == ["configuration", "runs", "val/r2 (mean ± sd)"]


def test_seeds_alone_are_one_group_and_no_runs_none() -> None:
    (group,) = group_by_seed([child("seed=0", 0.5), child("seed=1", 0.6)])
    assert group.overrides == "(all runs)"
    assert group_by_seed([]) == []
