"""The members of the bundle of real ECGs: a network, and gradient boosting on ECG measurements. What each is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from held_out import HeldOutFold
from numpy.typing import NDArray

from einthoven.data.store.digests import digest
from einthoven.evaluation import scores
from einthoven.evaluation.comparison import Difference, paired_difference
from einthoven.evaluation.metrics import auroc_per_class
from einthoven.models.boosted_trees import BoostedTrees
from einthoven.models.trees import GradientBoosting
from einthoven.predict.bundle import Bundle
from einthoven.predict.forward import mean_with, predict_with_members, predict_with_network
from einthoven.predict.tree_member import TreeMember
from einthoven.runs.network.members import FeatureMember, read_member

Float = NDArray[np.float64]

WEIGHT = 0.5
"""Weight of gradient boosting in the mean."""


@dataclass(frozen=True)
class Worth:
    """What one member, or the mean, is worth for the superclasses of the out-of-fold records.

    Attributes
    ----------
    name : str
    auroc : ndarray, shape (K,)
    likelihood : float
        Mean negative log-likelihood before any calibration.
    """

    name: str
    auroc: Float
    likelihood: float


@dataclass(frozen=True)
class WorthOfMembers:
    """What the members are worth alone and together.

    Attributes
    ----------
    rows : tuple of Worth
        The network, gradient boosting, and the mean.
    gain : Difference
        Macro AUROC of the mean minus that of the network, over patients.
    """

    rows: tuple[Worth, ...]
    gain: Difference


def read_boosting(folder: Path) -> FeatureMember:
    """Read a run of gradient boosting."""
    member = read_member(str(folder), "boosting")
    if not isinstance(member, FeatureMember) or not isinstance(member.model, GradientBoosting):
        raise SystemExit(f"{folder}: no gradient boosting; expected a run of model=gradient_boosting.")
    return member


def with_boosting(bundle: Bundle, member: FeatureMember, *, single: bool) -> Bundle:
    """Return a bundle of superclasses that answers with the mean of its network and gradient boosting.

    Parameters
    ----------
    bundle : Bundle
    member : FeatureMember
        From `read_boosting`.
    single : bool
        Round the numbers of the trees to single precision, as in the file.
    """
    assert isinstance(member.model, GradientBoosting)
    trees = BoostedTrees.from_model(member.model, [member.classes.index(name) for name in bundle.classes])
    rounded = trees.in_single_precision() if single else trees
    ancestry = None if bundle.ancestry is None else bundle.ancestry.merged(member.ancestry)
    return replace(bundle, members=(TreeMember(rounded, WEIGHT),), ancestry=ancestry)


def fold_with_boosting(fold: HeldOutFold, folder: Path) -> HeldOutFold:
    """Return a fold whose bundles answer with the mean. Refuse trees that have seen a record of the fold."""
    member = read_boosting(folder)
    digests = np.array([digest(signal) for signal in fold.signals], "S16")
    seen = int(member.ancestry.in_training(digests).sum())
    if seen:
        raise SystemExit(f"{folder}: was fitted to {seen} records of the fold {fold.fold}, which are held out.")
    return replace(
        fold,
        bundle=with_boosting(fold.bundle, member, single=True),
        unrounded=with_boosting(fold.unrounded, member, single=False),
    )


def measure_members(folds: Sequence[HeldOutFold], columns: slice) -> WorthOfMembers:
    """Measure what the members are worth alone and together, for the classes of the mean, out of fold."""
    y = np.concatenate([fold.y for fold in folds])[:, columns]
    networks = []
    trees = []
    means = []
    for fold in folds:
        network_p, _ = predict_with_network(fold.bundle, fold.signals)
        of_members = predict_with_members(fold.bundle, fold.signals)
        networks.append(network_p[:, columns])
        trees.append(of_members / WEIGHT)
        means.append(mean_with(fold.bundle, network_p, of_members)[:, columns])
    answers = {"network": networks, "gradient boosting": trees, "mean of both": means}
    p = {name: np.concatenate(parts) for name, parts in answers.items()}
    rows = [
        Worth(name, auroc_per_class(y, values), float(scores.log_loss_per_class(y, values).mean()))
        for name, values in p.items()
    ]
    patients = np.concatenate([fold.patients for fold in folds])
    return WorthOfMembers(tuple(rows), paired_difference(y, p["network"], p["mean of both"], groups=patients))


def describe_in_provenance(member: FeatureMember) -> list[dict[str, Any]]:
    """Return the entry of the provenance: the members, their weights, and the options of gradient boosting."""
    options = {name: value for name, value in member.options.items() if name.startswith("model.")}
    return [
        {"model": "network", "weight": 1 - WEIGHT},
        {"model": "gradient boosting", "weight": WEIGHT, "sha256": member.sha256, "config": options},
    ]
