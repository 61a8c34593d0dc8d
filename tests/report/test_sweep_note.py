from __future__ import annotations

import math

import numpy as np
import pytest

from einthoven.report.markdown import markdown_table
from einthoven.report.sweep_note import (
    MEANS_COMPARED,
    answering_metrics,
    best_group,
    brief,
    compared_by,
    group_by_seed,
    note,
    repeated,
    rows,
)


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
    assert markdown_table(columns, cells).splitlines()[2] == "| optimizer=adamw | 2 (1 failed) | 0.9000 |"


def test_runs_of_a_quantity_are_compared_by_r2() -> None:
    children = [
        (f"optimizer={name}", "FINISHED", {"val/r2": r2, "val/mae": 5.0}) for name, r2 in (("a", 0.2), ("b", 0.6))
    ]
    found = group_by_seed(children)
    assert [group.overrides for group in found] == ["optimizer=b", "optimizer=a"]
    assert rows(found)[0] == ["configuration", "runs", "val/r2 (mean ± sd)"]


def test_a_run_with_a_mean_is_compared_by_its_mean() -> None:
    alone = {"val/macro_auroc": 0.8, "test/macro_auroc": 0.8}
    together = {"val/macro_auroc": 0.7, "val/mean_macro_auroc": 0.9, "test/mean_macro_auroc": 0.85}
    groups = group_by_seed(
        [
            ("mean_with=[]", "FINISHED", answering_metrics(alone)),
            ("mean_with=[forest]", "FINISHED", answering_metrics(together)),
        ]
    )
    assert [group.overrides for group in groups] == ["mean_with=[forest]", "mean_with=[]"]
    assert groups[0].values == {"val/macro_auroc": (0.9,), "test/macro_auroc": (0.85,)}
    assert note(groups, {"trained": 2}, "x", {}, has_means=True).startswith(MEANS_COMPARED)
    assert MEANS_COMPARED not in note(groups, {"trained": 2}, "x", {})


def test_a_value_of_zero_is_a_value() -> None:
    assert compared_by([{"val/r2": 0.0, "test/r2": 0.5}]) == "val/r2"
    (group,) = group_by_seed([("seed=0", "FINISHED", {"val/r2": 0.0})])
    assert compared_by([group.values]) == "val/r2"


def test_seeds_alone_are_one_group_and_no_runs_none() -> None:
    (group,) = group_by_seed([child("seed=0", 0.5), child("seed=1", 0.6)])
    assert group.overrides == "(all runs)"
    assert group_by_seed([]) == []


def test_the_command_of_several_seeds_runs_them_all_again() -> None:
    given = [["model.channels=[8,8]", "optimizer=sgd", f"seed={seed}"] for seed in (10, 1, 2)]
    expected = ["model.channels=[8,8]", "optimizer=sgd", "seed=1,2,10", "again=true"], True
    assert repeated(given, mode_in_yaml=False) == repeated(given, mode_in_yaml=True) == expected


def test_the_command_of_one_run_is_no_sweep_even_of_a_recipe_that_is() -> None:
    given = ["sweep=optimizers", "optimizer=muon", "seed=1"]
    assert repeated([given], mode_in_yaml=True) == ([*given, "hydra.mode=RUN"], False)
    assert repeated([["optimizer=muon"]], mode_in_yaml=False) == (["optimizer=muon"], False)


def test_the_note_begins_with_the_best_and_ends_with_what_failed() -> None:
    counts = {"trained": 2, "trained earlier": 1, "failed": 1}
    told = note(group_by_seed(CHILDREN), counts, "einthoven train x=1", {"optimizer=adamw seed=1": "RuntimeError: no"})
    assert told.startswith("**val/macro_auroc 0.9000** with `optimizer=adamw`, the best of 2 configurations.")
    assert "```\neinthoven train x=1\n```" in told
    assert "4 runs: 2 trained, 1 trained earlier, 1 failed." in told
    assert told.endswith("- failed: `optimizer=adamw seed=1`: RuntimeError: no")


@pytest.mark.parametrize(
    "children",
    [
        [child("lr=-1", None, "FAILED"), child("lr=-2", None, "FAILED")],
        [child("lr=-1", 0.9, "FAILED"), child("lr=-2", 0.8, "KILLED")],  # measured before they failed
        [child("lr=1", math.nan), child("lr=2", None, "FAILED")],
        [("lr=1", "FINISHED", {"train/loss": 0.1}), ("lr=2", "FINISHED", {})],  # no fold to judge by
        [],
    ],
)
def test_where_no_run_reached_anything_none_is_the_best(children: list[tuple[str, str, dict[str, float]]]) -> None:
    groups = group_by_seed(children)
    assert best_group(groups) is None
    told = note(groups, {"trained": 0, "trained earlier": 0, "failed": len(children)}, None, {"lr=-1": "no"})
    assert told.startswith("No run has a metric for the comparison, so there is no best configuration.\n\n")
    assert "To run it again" not in told


@pytest.mark.parametrize(
    "other",
    [child("lr=2", 0.99, "FAILED"), child("lr=2", math.nan), child("lr=2", math.inf), child("lr=2", None)],
)
def test_the_best_is_of_the_runs_that_finished_with_a_number(other: tuple[str, str, dict[str, float]]) -> None:
    for children in ([child("lr=1", 0.6), other], [other, child("lr=1", 0.6)]):
        best = best_group(group_by_seed(children))
        assert best is not None
        assert (best.overrides, best.values) == ("lr=1", {"val/macro_auroc": (0.6,)})


def test_a_seed_that_failed_does_not_count_in_the_mean() -> None:
    (group,) = group_by_seed([child("seed=0", 0.5), child("seed=1", 0.1, "FAILED"), child("seed=2", math.nan)])
    assert (group.mean("val/macro_auroc"), group.runs, group.failed) == (0.5, 3, 1)


def test_a_choice_by_the_test_records_is_not_to_be_quoted() -> None:
    counts = {"trained": 1, "trained earlier": 0, "failed": 0}
    assert "too good to be quoted" in note(group_by_seed([("", "FINISHED", {"test/r2": 0.5})]), counts, "x", {})
    assert "quoted" not in note(group_by_seed([("", "FINISHED", {"val/r2": 0.5})]), counts, "x", {})


def test_a_long_table_is_cut_and_long_numbers_are_shortened() -> None:
    many = group_by_seed([child(f"optimizer.lr=0.00{k}123456789", 0.5) for k in range(1, 50)])
    told = note(many, {"trained": 49, "trained earlier": 0, "failed": 0}, "x", {})
    assert told.count("| optimizer.lr=") == 30 and "… and 19 more" in told
    assert brief("optimizer.lr=0.00123456789 a=1.5 b=3.2000000001e-05") == "optimizer.lr=0.001235 a=1.5 b=3.2e-05"
