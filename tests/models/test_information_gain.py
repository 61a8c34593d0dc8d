"""Information gain of splits, against the impurities of scikit-learn and against mutual information."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score

from einthoven.models.information_gain import Splits, entropy_of_counts, gain_of_features, splits_of_boosted_tree
from einthoven.models.trees import DecisionTree, GradientBoosting, RandomForest, Trees

Float = NDArray[np.float64]
LOG2 = np.log(2.0)


def table(labels: int = 3, records: int = 300) -> tuple[Float, Float]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(records, 6))
    x[rng.random(x.shape) < 0.05] = np.nan
    slope = np.nan_to_num(x[:, :labels]) * 2
    return x, (rng.random(slope.shape) < 1 / (1 + np.exp(-slope))).astype(np.float64)


def fitted(model: Trees, single_label: bool = False) -> tuple[Trees, Float, Float]:
    x, y = table()
    if single_label:
        y = np.eye(3)[(y @ [1, 2, 4]).astype(int) % 3]
    model.fit(x, y, single_label=single_label, seed=0)
    return model, x, y


@pytest.mark.parametrize("counts", [[[3, 1]], [[5, 5]], [[4, 0]], [[1, 2, 3, 4]], [[3, 1], [2, 2]], [[0, 0]]])
def test_entropy_is_that_of_scipy(counts: list[list[int]]) -> None:
    expected = np.mean([entropy(row) if sum(row) else 0.0 for row in counts])
    assert entropy_of_counts(np.array(counts, float)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("single_label", [False, True])
@pytest.mark.parametrize("model", [DecisionTree(0, 5, 3), RandomForest(0, 12, 0.5, 2)], ids=["tree", "forest"])
def test_the_gain_is_the_decrease_of_impurity_of_scikit_learn(model: Trees, single_label: bool) -> None:
    model, x, y = fitted(model, single_label)
    estimator = model.fitted["estimators"][0]
    trees = getattr(estimator, "estimators_", [estimator])
    bits = np.mean([tree.tree_.compute_feature_importances(normalize=False) for tree in trees], axis=0)
    gain = model.information_gain(x, y)
    np.testing.assert_allclose(gain, bits * LOG2, atol=1e-12)
    assert (gain >= -1e-12).all() and gain.sum() > 0.1


@pytest.mark.parametrize("label", [0, 1, 2])
def test_the_gains_of_a_boosted_tree_add_up_to_the_information_of_its_leaves(label: int) -> None:
    """The mutual information of labels and leaves, by scikit-learn. Leaves are told apart by their values."""
    model, x, y = fitted(GradientBoosting(0, 5, 0.1, 6, 1.0))
    labels = y[:, label].astype(int)
    for (tree,) in model.fitted["estimators"][label]._predictors:
        values = tree.nodes["value"][tree.nodes["is_leaf"] == 1]
        assert len(np.unique(values)) == len(values)
        no_categories = np.zeros((0, 8), np.uint32)
        leaf = tree.predict(x, no_categories, np.zeros(0, np.uint32), 1)
        splits = splits_of_boosted_tree(tree.nodes, x, labels)
        np.testing.assert_array_equal(splits.counts.sum(axis=(1, 2)), tree.nodes["count"])
        assert gain_of_features(splits, 6).sum() == pytest.approx(mutual_info_score(labels, leaf), abs=1e-12)


@pytest.mark.parametrize("single_label", [False, True])
def test_gain_of_boosting_is_a_mean_over_trees_and_labels(single_label: bool) -> None:
    model, x, y = fitted(GradientBoosting(0, 4, 0.1, 4, 1.0), single_label)
    expected = np.zeros(6)
    estimators = model.fitted["estimators"]
    for number, estimator in enumerate(estimators):
        labels = y.argmax(axis=1) if single_label else y[:, number].astype(int)
        trees = [tree for trees_of_round in estimator._predictors for tree in trees_of_round]
        for tree in trees:
            expected += gain_of_features(splits_of_boosted_tree(tree.nodes, x, labels), 6) / len(trees)
    np.testing.assert_allclose(model.information_gain(x, y), expected / len(estimators), atol=1e-12)


def test_a_label_that_is_constant_has_no_gain() -> None:
    x, y = table()
    y[:, 1] = 1.0
    model = GradientBoosting(0, 3, 0.1, 4, 1.0).fit(x, y, single_label=False, seed=0)
    others = GradientBoosting(0, 3, 0.1, 4, 1.0).fit(x, y[:, [0, 2]], single_label=False, seed=0)
    np.testing.assert_allclose(model.information_gain(x, y), others.information_gain(x, y[:, [0, 2]]) * 2 / 3)


def test_a_perfect_and_a_useless_split() -> None:
    leaf = np.array([-1, -1])
    left, right = np.array([1, *leaf]), np.array([2, *leaf])
    feature = np.array([1, 0, 0])
    perfect = Splits(left, right, feature, np.array([[[5.0, 5]], [[5, 0]], [[0, 5]]]))
    np.testing.assert_allclose(gain_of_features(perfect, 3), [0, LOG2, 0])
    useless = Splits(left, right, feature, np.array([[[4.0, 4]], [[2, 2]], [[2, 2]]]))
    np.testing.assert_allclose(gain_of_features(useless, 3), 0.0, atol=1e-15)
