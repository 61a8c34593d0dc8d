"""Splits share neither folds nor patients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.data.sources.labels import Labels
from einthoven.data.sources.splits import SPLITS, split_rows
from einthoven.errors import UserError

OFFICIAL = {"train": [1, 2, 3, 4, 5, 6, 7, 8], "val": [9], "test": [10]}


def labels(folds: list[int], patients: list[int] | None = None) -> Labels:
    n = len(folds)
    who = list(range(n)) if patients is None else patients
    return Labels(np.ones((n, 1), np.uint8), ("NORM",), np.arange(n), np.array(folds), np.array(who), 0)


def test_rows_follow_the_folds() -> None:
    rows = split_rows(labels([10, 1, 9, 8, 1]), OFFICIAL)
    assert {name: found.tolist() for name, found in rows.items()} == {"train": [1, 3, 4], "val": [2], "test": [0]}


def test_a_split_without_records_or_folds_is_empty() -> None:
    rows = split_rows(labels([1, 2, 9]), OFFICIAL)
    assert rows["test"].size == 0
    assert split_rows(labels([1, 2, 9]), {"train": [1], "val": [], "test": []})["val"].size == 0


@pytest.mark.parametrize("pair", [("train", "val"), ("train", "test"), ("val", "test")])
def test_a_fold_in_two_splits_is_refused(pair: tuple[str, str]) -> None:
    folds = {name: [k] for k, name in enumerate(SPLITS, start=1)}
    folds[pair[1]] = [7, *folds[pair[0]]]
    with pytest.raises(UserError, match=f"fold {folds[pair[0]][0]} is in both {pair[0]} and {pair[1]}"):
        split_rows(labels([1, 2, 3, 7]), folds)


def test_a_patient_in_two_splits_is_refused() -> None:
    with pytest.raises(UserError, match=r"patient 5 .*both train and test"):
        split_rows(labels([1, 10, 9], [5, 5, 6]), OFFICIAL)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UserError, match=r"folds present: \[9, 10\]"):
        split_rows(labels([9, 10]), OFFICIAL)
    with pytest.raises(UserError, match="holds no labelled record"):
        split_rows(labels([1]), {"train": [], "val": [], "test": []})


@given(
    st.lists(st.integers(1, 10), min_size=1, max_size=60),
    st.permutations(range(1, 11)),
    st.integers(1, 9),
    st.integers(0, 9),
)
def test_splits_are_disjoint_and_complete(folds: list[int], order: list[int], first: int, second: int) -> None:
    a, b = sorted((first, second))
    chosen = {"train": order[:a], "val": order[a:b], "test": order[b:]}
    table = labels(folds, patients=folds)  # one patient a fold
    try:
        rows = split_rows(table, chosen)
    except UserError:
        assert not set(folds) & set(chosen["train"])
        return
    together = np.concatenate([rows[name] for name in SPLITS])
    assert sorted(together.tolist()) == list(range(len(folds)))
    for name in SPLITS:
        assert set(table.folds[rows[name]]) <= set(chosen[name])
