"""Decision trees and what is made of many: each split is the one that tells most about the labels.

How much a split tells is its information gain, the entropy of the labels less their mean entropy on the two sides
(Quinlan 1986, "Induction of decision trees"), in scikit-learn's words ``criterion="entropy"``. A feature that was not
measured (NaN) is an answer like others: such records go to the side where they gain most.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.bayes import succession
from einthoven.models.features import FeatureModel, check_count

Float = NDArray[np.float64]

MOST_TREES = 100_000
"""More than that of a few thousand leaves do not fit into the memory of a computer."""
MOST_LEAVES = 65_536
MOST_DEPTH = 10_000


class _Trees(FeatureModel):
    """Estimators of scikit-learn: one for all classes, or one for each."""

    trusted: ClassVar[tuple[str, ...]] = ("sklearn.tree._tree.Tree",)
    _records: int
    _classes: int
    _single_label: bool
    _fitted: list[Any]

    def predict(self, x: Float) -> Float:
        """Probabilities (n, K), by the rule of succession over the training records: never 0 or 1."""
        return succession(self._frequencies(x), self._records, self._classes if self._single_label else 2)

    def _frequencies(self, x: Float) -> Float:
        columns: list[Float] = []
        for estimator in self._fitted:
            found, known = estimator.predict_proba(x), estimator.classes_
            if isinstance(found, list):  # one of each label
                columns += [_of_class(p, labels, 1) for p, labels in zip(found, known, strict=True)]
            elif self._single_label:
                columns += [_of_class(found, known, k) for k in range(self._classes)]
            else:
                columns.append(_of_class(found, known, 1))
        return np.stack(columns, axis=1)

    def _start(self, x: Float, y: Float, single_label: bool) -> tuple[Float, NDArray[np.int64]]:
        """Table and labels as scikit-learn takes them: labels (n, K), or of a single label its number (n,).

        A feature that no training record has is made constant: no split asks for it.
        """
        self._records, self._classes = y.shape
        self._single_label = single_label
        labels = y.argmax(axis=1) if single_label else y
        return np.where(np.isfinite(x).any(axis=0), x, 0.0), labels.astype(np.int64)

    def state(self) -> dict[str, Any]:
        """The estimators, and what they were fitted to."""
        return {
            "estimators": self._fitted,
            "records": self._records,
            "classes": self._classes,
            "single_label": self._single_label,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self._fitted, self._records = state["estimators"], state["records"]
        self._classes, self._single_label = state["classes"], state["single_label"]


class DecisionTree(_Trees):
    """One tree, for all classes at once: at each node the largest information gain, averaged over the classes.

    Parameters
    ----------
    components : int
        Principal components of the beat among the features.
    depth : int
        Questions from the root to a leaf, at most.
    min_leaf : int
        Training records in a leaf, at least.
    """

    def __init__(self, components: int, depth: int, min_leaf: int) -> None:
        super().__init__(components)
        check_count("depth", depth, MOST_DEPTH)
        check_count("min_leaf", min_leaf)
        self.depth, self.min_leaf = depth, min_leaf

    def fit(self, x: Float, y: Float, *, single_label: bool, seed: int) -> Self:
        """Grow the tree. The seed decides between equally good splits."""
        from sklearn.tree import DecisionTreeClassifier

        x, labels = self._start(x, y, single_label)
        tree = DecisionTreeClassifier(
            criterion="entropy", max_depth=self.depth, min_samples_leaf=self.min_leaf, random_state=seed
        )
        self._fitted = [tree.fit(x, labels)]
        return self


class RandomForest(_Trees):
    """Many trees, each on a bootstrap sample and with few features to choose from at a node (Breiman 2001).

    Parameters
    ----------
    components : int
        Principal components of the beat among the features.
    trees : int
        How many.
    features_per_split : float
        Share of the features that a node may choose from.
    min_leaf : int
        Training records in a leaf, at least.
    """

    def __init__(self, components: int, trees: int, features_per_split: float, min_leaf: int) -> None:
        super().__init__(components)
        check_count("trees", trees, MOST_TREES)
        check_count("min_leaf", min_leaf)
        if not 0 < features_per_split <= 1:
            raise UserError(f"model.features_per_split={features_per_split}: expected a share above 0, at most 1.")
        self.trees, self.features_per_split, self.min_leaf = trees, features_per_split, min_leaf

    def fit(self, x: Float, y: Float, *, single_label: bool, seed: int) -> Self:
        """Grow the trees; bootstrap samples and features are drawn from the seed."""
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
        self._fitted = [forest.fit(x, labels).set_params(n_jobs=1)]  # threads would add up in any order
        return self


class GradientBoosting(_Trees):
    """Trees that are added one after the other, each fitted to the gradient of the log-likelihood (Friedman 2001).

    Histogram-based, as in LightGBM (Ke et al. 2017); one model for each label.

    Parameters
    ----------
    components : int
        Principal components of the beat among the features.
    rounds : int
        Trees, one after the other.
    lr : float
        Share of each tree that is added.
    leaves : int
        Leaves of a tree, at most.
    l2 : float
        Weight of the squared leaf values.
    """

    trusted: ClassVar[tuple[str, ...]] = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)

    def __init__(self, components: int, rounds: int, lr: float, leaves: int, l2: float) -> None:
        super().__init__(components)
        check_count("rounds", rounds, MOST_TREES)
        check_count("leaves", leaves, MOST_LEAVES, smallest=2)
        if not 0 < lr <= 1:
            raise UserError(f"model.lr={lr}: expected a share above 0, at most 1.")
        if not 0 <= l2 < math.inf:
            raise UserError(f"model.l2={l2}: expected a number, 0 or more.")
        self.rounds, self.lr, self.leaves, self.l2 = rounds, lr, leaves, l2

    def fit(self, x: Float, y: Float, *, single_label: bool, seed: int) -> Self:
        """Add the trees. A label that all training records share, or none has, needs none."""
        from sklearn.dummy import DummyClassifier
        from sklearn.ensemble import HistGradientBoostingClassifier

        x, labels = self._start(x, y, single_label)
        self._fitted = []
        for column in [labels] if single_label else list(labels.T):
            model = (
                HistGradientBoostingClassifier(
                    max_iter=self.rounds,
                    learning_rate=self.lr,
                    max_leaf_nodes=self.leaves,
                    l2_regularization=self.l2,
                    early_stopping=False,
                    random_state=seed,
                )
                if len(np.unique(column)) > 1
                else DummyClassifier()
            )
            self._fitted.append(model.fit(x, column))
        return self


def _of_class(p: Float, known: NDArray[np.int64], label: int) -> Float:
    """Column of one label among those that the training records had; 0 for one that none had."""
    at = np.flatnonzero(known == label)
    return np.asarray(p[:, at[0]] if len(at) else np.zeros(len(p)))
