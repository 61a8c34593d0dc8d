"""Which classes the bundle of real ECGs answers, and the out-of-fold predictions of these classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from held_out import HeldOutFold
from numpy.typing import NDArray

from einthoven.data.doctor import Finding, examine
from einthoven.data.synthetic.statements import SUPERCLASSES
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.metrics import auroc_per_class
from einthoven.predict.bundle import Bundle
from einthoven.predict.forward import predict_windows
from einthoven.predict.groups import Groups, answer_groups

Float = NDArray[np.float64]
FEWEST_PATIENTS = 25
"""A statement with fewer positive patients is not answered. With 25, the 95 % interval of a sensitivity of 0.9 is 0.71
to 0.98. With ten, it is 0.55 to 1."""

LOWEST_AUROC = 0.7
"""A statement is not answered if the interval of its AUROC begins below this: the network may hardly tell it."""

MAIN_GROUP = "superclasses"
ATTRIBUTION = (
    "Training records: PTB-XL (Wagner et al., Scientific Data 7:154, 2020, physionet.org/content/ptb-xl), CC BY 4.0."
)
EXAMINED_AT_ONCE = 128


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of all records, each by the network that has not seen it: n records, K classes."""

    y: Float
    p: Float
    single_precision: Float
    distance: Float
    fold: NDArray[np.int64]
    patients: NDArray[np.int64]
    findings: list[list[Finding]]

    def select(self, columns: Sequence[int]) -> OutOfFold:
        """Return the predictions of some classes."""
        selected = list(columns)
        return replace(
            self,
            y=self.y[:, selected],
            p=self.p[:, selected],
            single_precision=self.single_precision[:, selected],
        )


@dataclass(frozen=True)
class LeftOut:
    """A statement that is not answered. Its AUROC is NaN if it has too few positive patients."""

    name: str
    meaning: str
    patients: int
    auroc: float
    low: float


def candidate_groups(bundle: Bundle, root: Path) -> Groups:
    """Return the superclasses, and all rhythms and statements that the network has learned, with their meanings."""
    if set(bundle.classes) != set(SUPERCLASSES):
        raise SystemExit(f"the classes {', '.join(bundle.classes)} found; expected task=superdiagnostic.")
    groups = {MAIN_GROUP: {name: SUPERCLASSES[name] for name in bundle.classes}}
    readout = bundle.model.readout
    if readout is None:
        return groups
    statements = pd.read_csv(root / "scp_statements.csv", index_col=0)
    rhythms = {}
    others = {}
    for name in readout.statements:
        # An output of its own for a class, or NORM, is answered as a superclass.
        if name in SUPERCLASSES or name not in statements.index:
            continue
        of_group = rhythms if statements.loc[name, "rhythm"] == 1 else others
        of_group[name] = str(statements.loc[name, "description"]).strip()
    return {**groups, "rhythms": rhythms, "statements": others}


def choose_groups(candidates: Groups, out_of_fold: OutOfFold) -> tuple[Groups, list[LeftOut]]:
    """Return the groups without the statements that have too few positive patients, or are hardly told; and these."""
    main = candidates[MAIN_GROUP]
    names = [name for meanings in candidates.values() for name in meanings]
    patients = [len(np.unique(out_of_fold.patients[positive > 0])) for positive in out_of_fold.y.T]
    enough = [k for k in range(len(names)) if patients[k] >= FEWEST_PATIENTS]
    auroc = auroc_per_class(out_of_fold.y, out_of_fold.p)
    _, of_enough = auroc_intervals(out_of_fold.y[:, enough], out_of_fold.p[:, enough], groups=out_of_fold.patients)
    intervals = dict(zip(enough, of_enough, strict=True))

    answered: dict[str, dict[str, str]] = {}
    left_out = []
    for group, meanings in candidates.items():
        answered[group] = {}
        for name, meaning in meanings.items():
            k = names.index(name)
            interval = intervals.get(k)
            if name in main or (interval is not None and interval.low >= LOWEST_AUROC):
                answered[group][name] = meaning
            elif interval is None:
                left_out.append(LeftOut(name, meaning, patients[k], np.nan, np.nan))
            else:
                left_out.append(LeftOut(name, meaning, patients[k], float(auroc[k]), interval.low))
    return {group: meanings for group, meanings in answered.items() if meanings}, left_out


def columns_of(groups: Groups, candidates: Groups) -> list[int]:
    """Return the columns of the classes of some groups among those of all candidates."""
    names = [name for meanings in candidates.values() for name in meanings]
    return [names.index(name) for meanings in groups.values() for name in meanings]


def slices_of(groups: Groups) -> list[slice]:
    """Return the columns of each group."""
    ends = np.cumsum([0, *(len(meanings) for meanings in groups.values())]).tolist()
    return [slice(first, stop) for first, stop in pairwise(ends)]


def widen_fold(fold: HeldOutFold, groups: Groups) -> HeldOutFold:
    """Return a fold whose networks answer all classes of some groups, with the labels of these classes."""
    labels = {**fold.statements, **dict(zip(fold.bundle.classes, fold.y.T, strict=True))}
    columns = [labels[name] for meanings in groups.values() for name in meanings]
    return replace(
        fold,
        bundle=answer_groups(fold.bundle, groups),
        unrounded=answer_groups(fold.unrounded, groups),
        y=np.stack(columns, axis=1),
    )


def predict_held_out(folds: Sequence[HeldOutFold]) -> OutOfFold:
    """Predict and examine the records of each fold."""
    predictions = [fold.predict(fold.signals) for fold in folds]
    single = [predict_windows(fold.unrounded, fold.signals)[0] for fold in folds]
    findings: list[list[Finding]] = []
    for fold in folds:
        for first in range(0, len(fold.signals), EXAMINED_AT_ONCE):
            millivolts = fold.signals[first : first + EXAMINED_AT_ONCE] * 1e-3
            findings += examine(millivolts, fold.bundle.input_format.fs, fold.bundle.input_format.leads)
    return OutOfFold(
        y=np.concatenate([fold.y for fold in folds]),
        p=np.concatenate([p for p, _ in predictions]),
        single_precision=np.concatenate(single),
        distance=np.concatenate([distance for _, distance in predictions]),
        fold=np.concatenate([np.full(len(fold.y), fold.fold) for fold in folds]),
        patients=np.concatenate([fold.patients for fold in folds]),
        findings=findings,
    )
