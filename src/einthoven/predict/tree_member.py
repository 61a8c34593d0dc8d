"""Members of a bundle beside its network: gradient boosting on ECG features.

The probability of a class of the first group is the weighted mean over the network and these models. Each model is a
few arrays in ``weights.safetensors`` and an entry in ``bundle.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.beats import SLOWEST_FS
from einthoven.functional.features import VERSION, beat_samples, feature_names
from einthoven.functional.pca import PCA
from einthoven.functional.tree_sums import TYPES, TreeSums
from einthoven.models.boosted_trees import BoostedTrees
from einthoven.models.features import FeatureTable
from einthoven.predict.signal import InputFormat

PREFIX = "trees."
"""Start of the names of the tensors of all members."""

_PCA = ("pca_mean", "pca_components")
_REAL = ("number", "baseline")
"""Numbers of trees, which may be in single precision."""
_SMALL = ("feature", "skip")


@dataclass(frozen=True)
class TreeMember:
    """Gradient boosting on ECG features, and its share of the answer.

    Attributes
    ----------
    trees : BoostedTrees
    weight : float
        Weight of its probabilities in the mean. The weights of the network and of all members add up to one.
    """

    trees: BoostedTrees
    weight: float

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``bundle.json``."""
        table = self.trees.table
        return {
            "weight": self.weight,
            "features": VERSION,
            "names": list(table.names),
            "components": 0 if table.pca is None else len(table.pca.components_),
            "records": self.trees.records,
        }

    def to_arrays(self, *, single: bool) -> dict[str, NDArray[Any]]:
        """Return the arrays of ``weights.safetensors``; with `single`, the numbers of trees in single precision."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self.trees.sums, name) for name in TYPES}
        pca = self.trees.table.pca
        if pca is not None:
            arrays |= {"pca_mean": pca.mean_, "pca_components": pca.components_}
        if single:
            arrays |= {name: arrays[name].astype(np.float32) for name in _REAL}
        for name in _SMALL:
            # Most trees are small, and most tables have few columns.
            if arrays[name].max(initial=0) <= np.iinfo(np.uint8).max:
                arrays[name] = arrays[name].astype(np.uint8)
        return arrays


def tensor_names(entries: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names of the tensors of the members that checked entries of ``bundle.json`` describe."""
    names = set()
    for number, entry in enumerate(entries):
        own = (*TYPES, *_PCA) if entry["components"] else TYPES
        names |= {f"{PREFIX}{number}.{name}" for name in own}
    return names


def check_features(entry: Mapping[str, Any], input_format: InputFormat) -> None:
    """Refuse a checked entry of ``bundle.json`` whose features are not those that this package measures.

    Raises
    ------
    UserError
    """
    if entry["features"] != VERSION:
        raise UserError(
            f"its gradient boosting was fitted to ECG features of version {entry['features']}, and this einthoven "
            f"measures version {VERSION}; expected a bundle that is made with this version of einthoven: make it again."
        )
    if input_format.fs < SLOWEST_FS:
        raise UserError(
            f"its gradient boosting reads ECG features at {input_format.fs:g} Hz; expected {SLOWEST_FS:g} Hz at least."
        )
    components = [f"beat_pc{number + 1}" for number in range(entry["components"])]
    if list(entry["names"]) != [*feature_names(input_format.leads), *components]:
        raise UserError("its gradient boosting reads other ECG features than those of the leads of the bundle.")


def restore_member(
    entry: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    input_format: InputFormat,
    classes: int,
    single_label: bool,
) -> TreeMember:
    """Return the member of a checked entry of ``bundle.json`` and its arrays. They can come from a stranger.

    Parameters
    ----------
    entry : mapping
    arrays : mapping of str to ndarray
        As `TreeMember.to_arrays` returns them.
    input_format : InputFormat
    classes : int
        Number of classes of the first group.
    single_label : bool
        As of the bundle.

    Raises
    ------
    UserError
        If the arrays are no trees over these features, or have another number of classes.
    """
    table = FeatureTable(entry["components"])
    table.names = tuple(entry["names"])
    table.pca = None
    if entry["components"]:
        table.pca = PCA(entry["components"])
        values = len(input_format.leads) * beat_samples(input_format.fs)
        shapes = ((values,), (entry["components"], values))
        table.pca.mean_, table.pca.components_ = (
            _real(name, arrays[name], shape) for name, shape in zip(_PCA, shapes, strict=True)
        )
    sums = TreeSums.from_arrays(arrays, len(table.names))
    if len(sums.trees) != classes:
        raise UserError(f"trees: {len(sums.trees)} sums; expected one for each of {classes} classes.")
    return TreeMember(BoostedTrees(table, sums, entry["records"], single_label), float(entry["weight"]))


def _real(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return an array. Refuse another shape, another type, and values that are not finite."""
    if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
        raise UserError(f"trees: {name} is {array.dtype} of the shape {array.shape}; expected finite numbers, {shape}.")
    return array
