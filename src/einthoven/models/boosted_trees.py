"""Fitted gradient boosting as plain arrays: what a bundle stores, and predicts with, without scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.bayes import succession
from einthoven.functional.features import Features
from einthoven.functional.tree_sums import TYPES, TreeSums
from einthoven.models.features import FeatureTable
from einthoven.models.trees import GradientBoosting

Float = NDArray[np.float64]

CERTAIN = 1000.0
"""Sum of the trees for a label that all training records have. Its sigmoid is exactly 1, and that of its negative 0."""


@dataclass(frozen=True)
class BoostedTrees:
    """Gradient boosting that was fitted to a table of ECG features.

    Attributes
    ----------
    table : FeatureTable
        Fitted.
    sums : TreeSums
        One sum for each class.
    records : int
        Number of training records.
    single_label : bool
        Whether the probabilities are a softmax over the sums, or one sigmoid for each sum.
    """

    table: FeatureTable
    sums: TreeSums
    records: int
    single_label: bool

    @classmethod
    def from_model(cls, model: GradientBoosting, order: Sequence[int]) -> Self:
        """Return the arrays of a fitted model.

        Parameters
        ----------
        model : GradientBoosting
        order : sequence of int
            Classes of the model, in the order of the classes of the result.

        Raises
        ------
        UserError
            If a tree has too many nodes, or the trees take too long.
        """
        fitted = model.fitted
        trees, baseline = _trees_of_classes(fitted)
        sums = _join([trees[k] for k in order], baseline[list(order)])
        sums.check_time()
        return cls(model.table, sums, int(fitted["records"]), bool(fitted["single_label"]))

    def predict(self, features: Features) -> Float:
        """Return the probabilities (n, K) of a table of features.

        Raises
        ------
        UserError
            If it has other features than those that the model was fitted to.
        """
        from scipy.special import expit, softmax

        # Trees of a stranger may have sums that overflow. The caller refuses the result.
        with np.errstate(over="ignore", invalid="ignore"):
            scores = self.sums.evaluate(self.table.transform(features))
            if self.single_label:
                return succession(softmax(scores, axis=1), self.records, scores.shape[1])
            return succession(expit(scores), self.records)

    def in_single_precision(self) -> Self:
        """Return the same model, with the numbers of its trees in single precision (`TreeSums.in_single_precision`)."""
        return replace(self, sums=self.sums.in_single_precision())


def _trees_of_classes(fitted: dict[str, Any]) -> tuple[list[list[Any]], Float]:
    """Return the trees of each class, as nodes of scikit-learn, and the baseline of each class."""
    classes = int(fitted["classes"])
    trees: list[list[Any]] = [[] for _ in range(classes)]
    # A class that no training record has
    baseline = np.full(classes, -CERTAIN)
    for number, estimator in enumerate(fitted["estimators"]):
        labels = estimator.classes_.astype(int).tolist()
        has_trees = hasattr(estimator, "_predictors")
        if fitted["single_label"]:
            # One estimator for all classes. With two of them, its trees are those of the second one.
            with_trees = labels if len(labels) > 2 else labels[1:]
            baseline[labels[0]] = 0.0
        else:
            # One estimator for each class, with the labels 0 and 1
            with_trees = [number] if has_trees else []
            if labels == [1]:
                baseline[number] = CERTAIN
        if not has_trees:
            continue
        baseline[with_trees] = estimator._baseline_prediction.ravel()
        for trees_of_round in estimator._predictors:
            for k, tree in zip(with_trees, trees_of_round, strict=True):
                trees[k].append(tree.nodes)
    return trees, baseline


def _join(trees_of_classes: Sequence[Sequence[Any]], baseline: Float) -> TreeSums:
    """Put the nodes of all trees one after the other."""
    trees = [_in_order(nodes) for trees in trees_of_classes for nodes in trees]
    sizes = [len(tree["number"]) for tree in trees]
    arrays: dict[str, NDArray[Any]] = {}
    for name in ("feature", "number", "skip", "nan_left"):
        parts = [np.empty(0, TYPES[name]), *(tree[name] for tree in trees)]
        arrays[name] = np.concatenate(parts)
    arrays["roots"] = np.cumsum([0, *sizes])[:-1].astype(np.int32)
    arrays["trees"] = np.array([len(trees) for trees in trees_of_classes], np.int32)
    arrays["baseline"] = np.asarray(baseline, np.float64)
    return TreeSums(**arrays)


def _in_order(nodes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a tree, with the left side of each node right behind it."""
    order = []
    waiting = [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if not nodes["is_leaf"][node]:
            waiting += [int(nodes["right"][node]), int(nodes["left"][node])]
    ordered = nodes[order]
    new_place = np.argsort(order)
    is_leaf = ordered["is_leaf"].astype(bool)
    skip = np.where(is_leaf, 0, new_place[np.where(is_leaf, 0, ordered["right"])] - np.arange(len(order)))
    feature = np.where(is_leaf, 0, ordered["feature_idx"])
    if max(skip.max(), feature.max()) > np.iinfo(np.int16).max:
        raise UserError(f"a tree of {len(order):,} nodes: the trees of a bundle have less.")
    return {
        "feature": feature.astype(np.int16),
        "number": np.where(is_leaf, ordered["value"], ordered["num_threshold"]),
        "skip": skip.astype(np.int16),
        "nan_left": ordered["missing_go_to_left"].astype(bool),
    }
