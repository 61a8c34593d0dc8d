"""Decision trees, random forests and gradient boosting on ECG features.

Each split of a tree has the largest information gain: the entropy of the labels minus their mean entropy on the two
sides (Quinlan 1986, "Induction of decision trees"; ``criterion="entropy"`` in scikit-learn). Records without a
measurement of the feature (NaN) go to the side with the larger gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.bayes import succession
from einthoven.models.features import FeatureModel, check_count
from einthoven.models.information_gain import Splits, gain_of_features, splits_of_boosted_tree, splits_of_tree

Float = NDArray[np.float64]

MOST_TREES = 100_000
"""Largest number of trees. More trees of a few thousand leaves do not fit into the memory of a computer."""
MOST_LEAVES = 65_536
MOST_DEPTH = 10_000


class Trees(FeatureModel):
    """Base class of models with scikit-learn estimators: one for all classes, or one per class."""

    trusted: ClassVar[tuple[str, ...]] = ("sklearn.tree._tree.Tree",)
    fitted_names: ClassVar[tuple[str, ...]] = ("estimators", "records", "classes", "single_label")

    def predict(self, x: Float) -> Float:
        """Return the probabilities (n, K). The rule of succession over the training records keeps them off 0 and 1."""
        alternatives = self.fitted["classes"] if self.fitted["single_label"] else 2
        return succession(self._frequencies(x), self.fitted["records"], alternatives)

    def information_gain(self, x: Float, y: Float) -> Float:
        """Return the information gain of the splits by each feature, in nats.

        It is the mean over all trees. In gradient boosting, which has trees for each label, it is the mean over the
        trees of a label, and then over the labels.

        Parameters
        ----------
        x, y : ndarray
            Table (n, F) and labels (n, K) of the training records.

        Returns
        -------
        ndarray, shape (F,)
            The sum over the features is H(y) - H(y | leaf), as a mean over the trees. In a random forest, each tree
            counts its own bootstrap sample.
        """
        x, labels = _table_and_labels(x, y, self.fitted["single_label"])
        gains = []
        for number, estimator in enumerate(self.fitted["estimators"]):
            column = labels if labels.ndim == 1 else labels[:, number % labels.shape[1]]
            trees = list(_splits(estimator, x, column))
            total = np.zeros(x.shape[1])
            for splits in trees:
                total += gain_of_features(splits, x.shape[1])
            gains.append(total / max(len(trees), 1))
        return np.asarray(np.mean(gains, axis=0))

    def _frequencies(self, x: Float) -> Float:
        """Return the frequencies (n, K) of the classes in the leaves of records."""
        columns: list[Float] = []
        for estimator in self.fitted["estimators"]:
            frequencies = estimator.predict_proba(x)
            labels = estimator.classes_
            if isinstance(frequencies, list):
                # One estimator for all labels of a multi-label task
                columns += [_select_label(p, values, 1) for p, values in zip(frequencies, labels, strict=True)]
            elif self.fitted["single_label"]:
                columns += [_select_label(frequencies, labels, k) for k in range(self.fitted["classes"])]
            else:
                # One estimator per label
                columns.append(_select_label(frequencies, labels, 1))
        return np.stack(columns, axis=1)

    def _start(self, x: Float, y: Float, single_label: bool) -> tuple[Float, NDArray[np.int64]]:
        """Store the sizes and an empty list of estimators. Return table and labels for scikit-learn.

        The labels are (n, K), or (n,) class numbers in a single-label task.
        """
        records, classes = y.shape
        self.fitted = {"estimators": [], "records": records, "classes": classes, "single_label": single_label}
        return _table_and_labels(x, y, single_label)


class DecisionTree(Trees):
    """One tree for all classes. A split has the largest information gain, averaged over the classes.

    Parameters
    ----------
    components : int
        Principal components of the beat among the features.
    depth : int
        Largest number of splits from the root to a leaf.
    min_leaf : int
        Smallest number of training records in a leaf.
    """

    def __init__(self, components: int, depth: int, min_leaf: int) -> None:
        super().__init__(components)
        check_count("depth", depth, MOST_DEPTH)
        check_count("min_leaf", min_leaf)
        self.depth = depth
        self.min_leaf = min_leaf

    def fit(self, x: Float, y: Float, *, single_label: bool, seed: int) -> Self:
        """Grow the tree. The seed decides between equally good splits."""
        from sklearn.tree import DecisionTreeClassifier

        x, labels = self._start(x, y, single_label)
        tree = DecisionTreeClassifier(
            criterion="entropy", max_depth=self.depth, min_samples_leaf=self.min_leaf, random_state=seed
        )
        self.fitted["estimators"] = [tree.fit(x, labels)]
        return self


class RandomForest(Trees):
    """Many trees (Breiman 2001). Each has its own bootstrap sample, and each split chooses from few features.

    Parameters
    ----------
    components : int
        Principal components of the beat among the features.
    trees : int
        Number of trees.
    features_per_split : float
        Share of the features from which a split chooses.
    min_leaf : int
        Smallest number of training records in a leaf.
    """

    def __init__(self, components: int, trees: int, features_per_split: float, min_leaf: int) -> None:
        super().__init__(components)
        check_count("trees", trees, MOST_TREES)
        check_count("min_leaf", min_leaf)
        _check_features_per_split(features_per_split)
        self.trees = trees
        self.features_per_split = features_per_split
        self.min_leaf = min_leaf

    def fit(self, x: Float, y: Float, *, single_label: bool, seed: int) -> Self:
        """Grow the trees. The seed decides the bootstrap samples and the features of the splits."""
        from sklearn.ensemble import RandomForestClassifier

        x, labels = self._start(x, y, single_label)
        forest = RandomForestClassifier(
            self.trees,
            criterion="entropy",
            max_features=self.features_per_split,
            min_samples_leaf=self.min_leaf,
            n_jobs=-1,
            random_state=seed,
        )
        forest.fit(x, labels)
        # In prediction, several threads would sum the trees in a random order.
        forest.set_params(n_jobs=1)
        self.fitted["estimators"] = [forest]
        return self


class GradientBoosting(Trees):
    """A sum of trees. Each tree is fitted to the gradient of the log-likelihood of the sum before it (Friedman 2001).

    The splits are histogram-based, as in LightGBM (Ke et al. 2017). There is one model per label.

    Parameters
    ----------
    components : int
        Principal components of the beat among the features.
    rounds : int
        Number of trees.
    lr : float
        Learning rate: the share of each tree that is added.
    leaves : int
        Largest number of leaves in a tree.
    l2 : float
        Weight of the penalty on squared leaf values.
    features_per_split : float
        Share of the features from which a split chooses. They are drawn for each split, so that the trees differ more.
        Runs of earlier versions do not have this option, and their splits choose from all features.
    """

    trusted: ClassVar[tuple[str, ...]] = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)

    def __init__(
        self, components: int, rounds: int, lr: float, leaves: int, l2: float, features_per_split: float = 1.0
    ) -> None:
        super().__init__(components)
        check_count("rounds", rounds, MOST_TREES)
        check_count("leaves", leaves, MOST_LEAVES, smallest=2)
        if not 0 < lr <= 1:
            raise UserError(f"model.lr={lr}: expected a share above 0, at most 1.")
        if not 0 <= l2 < math.inf:
            raise UserError(f"model.l2={l2}: expected a number, 0 or more.")
        _check_features_per_split(features_per_split)
        self.rounds = rounds
        self.lr = lr
        self.leaves = leaves
        self.l2 = l2
        self.features_per_split = features_per_split

    def fit(self, x: Float, y: Float, *, single_label: bool, seed: int) -> Self:
        """Fit the trees. A label that is the same in all training records needs no trees."""
        from sklearn.dummy import DummyClassifier
        from sklearn.ensemble import HistGradientBoostingClassifier

        x, labels = self._start(x, y, single_label)
        columns = [labels] if single_label else list(labels.T)
        for column in columns:
            model = DummyClassifier()
            if len(np.unique(column)) > 1:
                model = HistGradientBoostingClassifier(
                    max_iter=self.rounds,
                    learning_rate=self.lr,
                    max_leaf_nodes=self.leaves,
                    l2_regularization=self.l2,
                    max_features=self.features_per_split,
                    early_stopping=False,
                    random_state=seed,
                )
            self.fitted["estimators"].append(model.fit(x, column))
        return self


def _check_features_per_split(share: float) -> None:
    """Refuse a share of the features that is not one."""
    if not 0 < share <= 1:
        raise UserError(f"model.features_per_split={share}: expected a share above 0, at most 1.")


def _table_and_labels(x: Float, y: Float, single_label: bool) -> tuple[Float, NDArray[np.int64]]:
    """Return the table and the labels that the trees are fitted to.

    A feature that no training record has becomes constant, so that no split uses it.
    """
    labels = y.argmax(axis=1) if single_label else y
    is_measured = np.isfinite(x).any(axis=0)
    return np.where(is_measured, x, 0.0), labels.astype(np.int64)


def _splits(estimator: Any, x: Float, labels: NDArray[np.int64]) -> Iterator[Splits]:
    """Yield the splits of each tree of an estimator. `x` and `labels` are those of the training records."""
    if hasattr(estimator, "tree_"):
        yield splits_of_tree(estimator.tree_)
    elif hasattr(estimator, "estimators_"):
        for tree in estimator.estimators_:
            yield splits_of_tree(tree.tree_)
    elif hasattr(estimator, "_predictors"):
        for trees_of_round in estimator._predictors:
            for tree in trees_of_round:
                yield splits_of_boosted_tree(tree.nodes, x, labels)


def _select_label(p: Float, labels: NDArray[np.int64], label: int) -> Float:
    """Return the column of a label, or zeros if no training record has the label.

    `labels` are the labels of the columns of `p` (n, labels).
    """
    columns = np.flatnonzero(labels == label)
    if len(columns) == 0:
        return np.zeros(len(p))
    return np.asarray(p[:, columns[0]])
