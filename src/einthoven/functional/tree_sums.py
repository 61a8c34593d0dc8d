"""Sums of decision trees as plain arrays, for example the trees of gradient boosting. All trees are evaluated together.

One array holds the nodes of all trees, one tree after the other. The first node of a tree is its root. A node is a
leaf, or has two sides. A record whose feature is at most the threshold goes to the left side, other records go to the
right side, and records without the feature (NaN) go to the side that the node states. The left side is the next node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError

Float = NDArray[np.float64]
Int = NDArray[np.int64]

VALUES_AT_ONCE = 1 << 17
"""Records are evaluated in groups with about this many positions in trees, so that the arrays stay in the cache."""

MOST_STEPS = 1 << 25
"""Largest product of the number of trees and of the nodes from a root to a leaf. So many steps for one record take
about a second."""

MOST_DEPTH = 1 << 14
"""Largest depth of a tree. Each level takes some microseconds, also if it has one node."""

TYPES = {"feature": np.int16, "number": np.float64, "skip": np.int16, "nan_left": np.bool_}
TYPES |= {"roots": np.int32, "trees": np.int32, "baseline": np.float64}
"""Type of each array."""


@dataclass(frozen=True)
class TreeSums:
    """K sums of decision trees with N nodes.

    Attributes
    ----------
    feature : ndarray of int16, shape (N,)
        Column of the table that a node compares; 0 in a leaf.
    number : ndarray of float64, shape (N,)
        Threshold of a node, or value of a leaf.
    skip : ndarray of int16, shape (N,)
        Distance from a node to its right side; 0 in a leaf.
    nan_left : ndarray of bool, shape (N,)
        Whether a record without the feature goes to the left side.
    roots : ndarray of int32, shape (T,)
        First node of each tree, ascending. The trees of the first sum come first, and so on.
    trees : ndarray of int32, shape (K,)
        Number of trees in each sum.
    baseline : ndarray of float64, shape (K,)
        Is added to each sum.
    """

    feature: NDArray[np.int16]
    number: Float
    skip: NDArray[np.int16]
    nan_left: NDArray[np.bool_]
    roots: NDArray[np.int32]
    trees: NDArray[np.int32]
    baseline: Float

    def evaluate(self, x: Float) -> Float:
        """Return the sums (n, K) of a table (n, F)."""
        at_once = max(VALUES_AT_ONCE // max(len(self.roots), 1), 1)
        sums = np.empty((len(x), len(self.trees)))
        for first in range(0, len(x), at_once):
            records = slice(first, first + at_once)
            sums[records] = self._evaluate(x[records])
        return sums

    def _evaluate(self, x: Float) -> Float:
        """Return the sums (n, K) of a few records."""
        left, right, feature = self._steps
        record = np.arange(len(x))[:, None]
        node: Int = np.broadcast_to(self.roots.astype(np.int64), (len(x), len(self.roots)))
        for _ in range(self.depth):
            value = x[record, feature[node]]
            goes_left = (value <= self.number[node]) | (np.isnan(value) & self.nan_left[node])
            node = np.where(goes_left, left[node], right[node])

        of_leaves = self.number[node]
        sums = np.tile(self.baseline, (len(x), 1))
        first = 0
        for k, count in enumerate(self.trees.tolist()):
            sums[:, k] += of_leaves[:, first : first + count].sum(axis=1)
            first += count
        return sums

    @cached_property
    def _steps(self) -> tuple[Int, Int, Int]:
        """The left side, the right side and the feature of each node. A record stays in a leaf: it is its own side."""
        node = np.arange(len(self.skip))
        left = np.where(self.skip > 0, node + 1, node)
        return left, node + self.skip, self.feature.astype(np.int64)

    @cached_property
    def depth(self) -> int:
        """The largest number of comparisons from a root to a leaf. Levels below `MOST_DEPTH` count as one."""
        depth = 0
        level = self.roots.astype(np.int64)
        while depth <= MOST_DEPTH:
            level = level[self.skip[level] > 0]
            if not len(level):
                break
            depth += 1
            level = np.concatenate([level + 1, level + self.skip[level]])
        return depth

    def check_time(self) -> None:
        """Refuse trees that take too long.

        Raises
        ------
        UserError
        """
        if self.depth > MOST_DEPTH:
            raise UserError(f"trees: a tree is deeper than {MOST_DEPTH:,}; expected a smaller depth.")
        nodes_on_path = self.depth + 1
        if nodes_on_path * len(self.roots) > MOST_STEPS:
            raise UserError(
                f"trees: {len(self.roots):,} trees with up to {nodes_on_path:,} nodes from a root to a leaf; "
                f"expected a product of {MOST_STEPS:,} at most."
            )

    def in_single_precision(self) -> Self:
        """Return the same trees, with thresholds, values and baseline rounded to single precision.

        Thresholds are rounded up. A threshold is often the value of a training record, which stays on the left side.
        """
        nearest = self.number.astype(np.float32)
        above = np.where(nearest < self.number, np.nextafter(nearest, np.float32(np.inf)), nearest)
        return replace(
            self,
            number=np.where(self.skip > 0, above, nearest).astype(np.float64),
            baseline=self.baseline.astype(np.float32).astype(np.float64),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], columns: int) -> Self:
        """Return the trees of arrays that can come from a stranger. Each type may be a smaller one.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            One for each attribute.
        columns : int
            Number of columns of the table.

        Raises
        ------
        UserError
            If they are no trees over such a table, or take too long.
        """
        values: dict[str, Any] = {}
        for name, dtype in TYPES.items():
            array = arrays[name]
            if array.ndim != 1 or not np.can_cast(array.dtype, dtype):
                raise UserError(
                    f"trees: {name} is {array.dtype} of the shape {array.shape}; expected a row of numbers."
                )
            values[name] = array.astype(dtype)
        trees = cls(**values)
        trees._check_values(columns)
        trees._check_order()
        trees.check_time()
        return trees

    def _check_values(self, columns: int) -> None:
        """Refuse arrays of different lengths, columns that are not in the table, and values that are not finite."""
        lengths = {len(array) for array in (self.feature, self.number, self.skip, self.nan_left)}
        if len(lengths) > 1:
            raise UserError("trees: feature, number, skip and nan_left differ in length.")
        counts = self.trees.astype(np.int64)
        if len(self.baseline) != len(counts) or (counts < 0).any() or counts.sum() != len(self.roots):
            raise UserError(f"trees: {len(self.roots)} trees; expected those of {len(self.baseline)} sums.")
        if ((self.feature < 0) | (self.feature >= columns)).any():
            raise UserError(f"trees: a node compares a column that is not among the {columns} of the table.")
        # A node that only divides known from missing values has an infinite threshold.
        is_leaf = self.skip == 0
        is_number = np.where(is_leaf, np.isfinite(self.number), ~np.isnan(self.number))
        if not (is_number.all() and np.isfinite(self.baseline).all()):
            raise UserError("trees: a threshold, a value or a baseline is not a number.")

    def _check_order(self) -> None:
        """Refuse nodes that are not one tree after the other: each is a root, or a side of one earlier node."""
        node = np.flatnonzero(self.skip)
        right = node + self.skip[node]
        # The trees of a node and of its right side, as numbers from 1.
        own_tree = np.searchsorted(self.roots, node, side="right")
        right_tree = np.searchsorted(self.roots, right, side="right")
        is_ascending = (np.diff(self.roots.astype(np.int64)) > 0).all()
        is_inside = (self.skip >= 0).all() and np.array_equal(own_tree, right_tree)
        sides = np.sort(np.concatenate([self.roots, node + 1, right]))
        if not (is_ascending and is_inside and np.array_equal(sides, np.arange(len(self.skip)))):
            raise UserError("trees: the nodes are not those of one tree after the other.")
