"""Information gain of the splits of decision trees, in nats: how much a split tells about the labels.

The gain of a split is the entropy of the labels in its node minus their mean entropy on the two sides (Quinlan 1986,
"Induction of decision trees"). Here it is weighted by the share of the training records that reach the node. So the
gains of all splits of a tree add up to H(y) - H(y | leaf). With several labels, an entropy is the mean over the labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """The m nodes of a tree. Node 0 is the root.

    Attributes
    ----------
    left, right : ndarray of int, shape (m,)
        Nodes on the two sides of a split; -1 in a leaf.
    feature : ndarray of int, shape (m,)
        Number of the feature that a node splits.
    counts : ndarray, shape (m, K, C)
        Number of training records in a node, for each of K labels and each of its C values.
    """

    left: Int
    right: Int
    feature: Int
    counts: Float


def entropy_of_counts(counts: Float) -> Float:
    """Return the entropy (...) in nats of labels with counts (..., K, C): the mean over the K labels."""
    total = counts.sum(axis=-1, keepdims=True)
    p = counts / np.where(total > 0, total, 1.0)
    return np.asarray(-(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1).mean(axis=-1))


def gain_of_features(splits: Splits, num_features: int) -> Float:
    """Return the information gain (F,) of all splits of a tree by the feature that they split, in nats."""
    weight = splits.counts[:, 0].sum(axis=-1)
    weighted_entropy = weight * entropy_of_counts(splits.counts)
    node = np.flatnonzero(splits.left >= 0)
    on_both_sides = weighted_entropy[splits.left[node]] + weighted_entropy[splits.right[node]]
    gain = np.zeros(num_features)
    np.add.at(gain, splits.feature[node], (weighted_entropy[node] - on_both_sides) / weight[0])
    return gain


def splits_of_tree(tree: Any) -> Splits:
    """Return the splits of a tree of scikit-learn (``tree_``). It has the counts of its own (weighted) records."""
    share = tree.value / tree.value.sum(axis=-1, keepdims=True)
    counts = share * tree.weighted_n_node_samples[:, None, None]
    return Splits(tree.children_left, tree.children_right, tree.feature, counts)


def splits_of_boosted_tree(nodes: NDArray[Any], x: Float, labels: Int) -> Splits:
    """Return the splits of a tree of gradient boosting. It does not count labels, so training records pass through it.

    Parameters
    ----------
    nodes : structured ndarray, shape (m,)
        Nodes of a histogram-based tree of scikit-learn, with splits at numbers.
    x : ndarray, shape (n, F)
        Features of the training records. NaN goes to the side that the node names.
    labels : ndarray of int, shape (n,)
        Label of each record, from 0.
    """
    is_leaf = nodes["is_leaf"].astype(bool)
    left = np.where(is_leaf, -1, nodes["left"].astype(np.int64))
    right = np.where(is_leaf, -1, nodes["right"].astype(np.int64))
    feature = np.where(is_leaf, 0, nodes["feature_idx"])
    classes = int(labels.max(initial=0)) + 1
    counts = np.zeros((len(nodes), 1, classes))

    # A node stands before its two sides. So one pass over the nodes is enough.
    records_of_node = {0: np.arange(len(x))}
    for number in range(len(nodes)):
        records = records_of_node.pop(number)
        counts[number, 0] = np.bincount(labels[records], minlength=classes)
        if is_leaf[number]:
            continue
        values = x[records, feature[number]]
        missing_goes_left = bool(nodes["missing_go_to_left"][number])
        goes_left = np.where(np.isnan(values), missing_goes_left, values <= nodes["num_threshold"][number])
        records_of_node[left[number]] = records[goes_left]
        records_of_node[right[number]] = records[~goes_left]
    return Splits(left, right, feature, counts)
