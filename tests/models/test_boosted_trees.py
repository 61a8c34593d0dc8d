"""Gradient boosting as plain arrays: the probabilities of scikit-learn, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional import tree_sums
from einthoven.functional.features import Features
from einthoven.functional.tree_sums import TYPES, TreeSums
from einthoven.models.boosted_trees import BoostedTrees
from einthoven.models.trees import GradientBoosting

Float = NDArray[np.float64]


def features(n: int, seed: int = 0) -> Features:
    """Features of which some are missing, with beats of which some are missing."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 6))
    values[rng.random(values.shape) < 0.15] = np.nan
    # Without noise, a split only divides known from missing values.
    values[:, 5] = np.where(np.isnan(values[:, 5]), np.nan, 1.0)
    beat = rng.normal(size=(n, 2, 7))
    beat[rng.random(n) < 0.1] = np.nan
    return Features(tuple("abcdef"), values, beat)


def labels(table: Features, classes: int) -> Float:
    """Labels that follow from the features, with noise. The last class is missing, the class before it everywhere."""
    rng = np.random.default_rng(5)
    scores = np.nan_to_num(table.values[:, :classes], nan=-0.7) + 0.5 * rng.normal(size=(len(table.values), classes))
    y = (scores > 0).astype(float)
    y[:, -1] = 0
    y[:, -2] = 1
    return y


def fitted(y: Float, table: Features, *, single_label: bool, **options: Any) -> GradientBoosting:
    model = GradientBoosting(**{"components": 3, "rounds": 12, "lr": 0.3, "leaves": 9, "l2": 1.0, **options})
    x = model.table.fit(table, 0).transform(table)
    model.fit(x, y, single_label=single_label, seed=0)
    return model


def single(y: Float, classes: list[int]) -> Float:
    """One label for each record: one of some classes."""
    one = np.zeros_like(y)
    one[np.arange(len(y)), np.array(classes)[(y @ np.arange(1, y.shape[1] + 1)).astype(int) % len(classes)]] = 1
    return one


CASES: dict[str, tuple[bool, Callable[[Float], Float]]] = {
    "a sigmoid for each class": (False, lambda y: y),
    "a softmax over four of five classes": (True, lambda y: single(y, [0, 1, 2, 4])),
    "a softmax over two classes": (True, lambda y: single(y, [1, 3])),
    "one class": (True, lambda y: single(y, [2])),
}


@pytest.mark.parametrize("case", CASES)
def test_the_probabilities_are_those_of_scikit_learn(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    single_label, choose = CASES[case]
    table, others = features(300), features(200, seed=1)
    model = fitted(choose(labels(table, 5)), table, single_label=single_label)
    order = [4, 2, 0, 1, 3]
    trees = BoostedTrees.from_model(model, order)
    expected = model.predict(model.table.transform(others))[:, order]
    p = trees.predict(others)
    np.testing.assert_allclose(p, expected, rtol=0, atol=1e-12)
    assert len({tuple(row) for row in np.round(p, 6)}) >= (1 if case == "one class" else 20)
    # Each record has the same probabilities alone, and in groups of any size.
    alone = Features(others.names, others.values[7:8], others.beat[7:8])
    np.testing.assert_allclose(trees.predict(alone), p[7:8], rtol=0, atol=1e-15)
    monkeypatch.setattr(tree_sums, "VALUES_AT_ONCE", 500)
    np.testing.assert_array_equal(trees.sums.evaluate(model.table.transform(others)), scores(trees, others))
    assert trees.predict(Features(others.names, others.values[:0], others.beat[:0])).shape == (0, 5)


def scores(trees: BoostedTrees, table: Features) -> Float:
    x = trees.table.transform(table)
    return np.concatenate([trees.sums.evaluate(x[row : row + 1]) for row in range(len(x))])


def test_no_beat_and_no_component() -> None:
    table = features(300)
    model = fitted(labels(table, 5), table, single_label=False, components=0)
    trees = BoostedTrees.from_model(model, range(5))
    nothing = Features(table.names, np.full((1, 6), np.nan), np.full((1, 2, 7), np.nan))
    np.testing.assert_allclose(trees.predict(nothing), model.predict(nothing.values), rtol=0, atol=1e-12)


def test_single_precision_changes_little() -> None:
    table = features(300)
    trees = BoostedTrees.from_model(fitted(labels(table, 5), table, single_label=False), range(5))
    rounded = trees.in_single_precision()
    np.testing.assert_array_equal(rounded.sums.number.astype(np.float32), rounded.sums.number)
    # Also of training records, whose values are thresholds.
    for records in (table, features(200, seed=1)):
        assert 0 < np.abs(rounded.predict(records) - trees.predict(records)).max() < 1e-6


@pytest.fixture(scope="module")
def sums() -> TreeSums:
    table = features(300)
    return BoostedTrees.from_model(fitted(labels(table, 5), table, single_label=False), range(5)).sums


def arrays(sums: TreeSums) -> dict[str, Any]:
    return {name: getattr(sums, name).copy() for name in TYPES}


def test_arrays_of_smaller_types_are_the_same_trees(sums: TreeSums) -> None:
    of_file = arrays(sums.in_single_precision())
    of_file["number"] = of_file["number"].astype(np.float32)
    read = TreeSums.from_arrays(of_file, 9)
    x = np.random.default_rng(2).normal(size=(50, 9))
    np.testing.assert_array_equal(read.evaluate(x), sums.in_single_precision().evaluate(x))


def change(name: str, place: int, value: float) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        content[name][place] = value

    return apply


def first_node(content: dict[str, Any], *, leaf: bool) -> int:
    return int(np.flatnonzero((content["skip"] == 0) == leaf)[0])


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a type": (lambda c: c.update(feature=c["feature"].astype(float)), "feature is float64"),
    "a matrix": (lambda c: c.update(number=c["number"][None]), "expected a row of numbers"),
    "a length": (lambda c: c.update(number=c["number"][:-1]), "differ in length"),
    "no sum": (lambda c: c.update(trees=c["trees"][:-1]), "expected those of 5 sums"),
    "a negative count": (lambda c: c["trees"].__setitem__(slice(0, 2), (-1, c["trees"][:2].sum() + 1)), "5 sums"),
    "a column": (change("feature", 0, 9), "not among the 9"),
    "a negative column": (change("feature", 0, -1), "not among the 9"),
    "a leaf": (lambda c: change("number", first_node(c, leaf=True), np.inf)(c), "is not a number"),
    "a threshold": (lambda c: change("number", first_node(c, leaf=False), np.nan)(c), "is not a number"),
    "a baseline": (change("baseline", 0, np.nan), "is not a number"),
    "a loop": (change("skip", 0, -1), "one tree after the other"),
    "two ways to a node": (change("skip", 0, 1), "one tree after the other"),
    "a side in another tree": (lambda c: change("skip", 0, c["roots"][1])(c), "one tree after the other"),
    "a side behind the end": (change("skip", 0, np.iinfo(np.int16).max), "one tree after the other"),
    "a lost node": (lambda c: change("skip", first_node(c, leaf=False), 0)(c), "one tree after the other"),
    "a root": (change("roots", 1, 1), "one tree after the other"),
    "a root behind the end": (change("roots", -1, 2**31 - 1), "one tree after the other"),
    "a negative root": (change("roots", 0, -1), "one tree after the other"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_are_no_trees_is_refused(name: str, sums: TreeSums) -> None:
    apply, expected = HOSTILE[name]
    content = arrays(sums)
    assert TreeSums.from_arrays(content, 9).depth == sums.depth > 2
    apply(content)
    with pytest.raises(UserError, match=expected):
        TreeSums.from_arrays(content, 9)


def chain(depth: int) -> dict[str, Any]:
    """One tree, in which each left side is a leaf."""
    skip = np.zeros(2 * depth + 1, np.int16)
    skip[:-1:2] = 2
    zeros = np.zeros(len(skip))
    one = {"roots": np.zeros(1, np.int32), "trees": np.ones(1, np.int32), "baseline": np.zeros(1)}
    return {"feature": zeros.astype(np.int16), "number": zeros, "skip": skip, "nan_left": zeros > 0, **one}


def leaves(count: int) -> dict[str, Any]:
    """Trees without a comparison."""
    zeros = np.zeros(count, np.int16)
    some = {"roots": np.arange(count, dtype=np.int32), "trees": np.array([count], np.int32), "baseline": np.zeros(1)}
    return {"feature": zeros, "number": zeros.astype(float), "skip": zeros, "nan_left": zeros > 0, **some}


@pytest.mark.parametrize(
    ("content", "limit", "most", "expected"),
    [
        (chain(6), "MOST_STEPS", 7, "1 trees with up to 7 nodes"),
        (leaves(6), "MOST_STEPS", 6, "6 trees with up to 1 nodes"),
        (chain(6), "MOST_DEPTH", 6, "a tree is deeper than 5"),
    ],
)
def test_trees_that_would_take_too_long_are_refused(
    content: dict[str, Any], limit: str, most: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_sums, limit, most)
    TreeSums.from_arrays(content, 9)
    monkeypatch.setattr(tree_sums, limit, most - 1)
    with pytest.raises(UserError, match=expected):
        TreeSums.from_arrays(content, 9)


def test_no_bundle_is_written_that_would_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = features(300)
    model = fitted(labels(table, 5), table, single_label=False)
    monkeypatch.setattr(tree_sums, "MOST_STEPS", 20)
    with pytest.raises(UserError, match="expected a product of 20 at most"):
        BoostedTrees.from_model(model, range(5))


def test_a_tree_that_is_too_large_for_a_bundle_is_refused() -> None:
    table = features(300)
    model = fitted(labels(table, 5), table, single_label=False)
    nodes = model.fitted["estimators"][0]._predictors[0][0].nodes
    nodes["feature_idx"][:] = np.iinfo(np.int16).max + 1
    with pytest.raises(UserError, match="the trees of a bundle have less"):
        BoostedTrees.from_model(model, range(5))
