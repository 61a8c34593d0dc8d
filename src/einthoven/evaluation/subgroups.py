"""The same figures for parts of the records: age, sex, site, device, noise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.intervals import Interval, interval_of
from einthoven.evaluation.metrics import FloatArray, macro_auroc
from einthoven.evaluation.resampling import Statistic, members_of, resampled
from einthoven.evaluation.scores import check_probabilities

SMALL = 50  # patients
AGE_BANDS = (40, 60, 80)


@dataclass(frozen=True)
class Subgroup:
    """Figures of one part of the records.

    Attributes
    ----------
    attribute, value : str
        Such as ``sex`` and ``female``.
    records, patients : int
    small : bool
        Fewer patients than the limit: its figures say little.
    auroc : float
        Macro AUROC over the classes with both labels here; nan where there is none.
    auroc_interval : Interval or None
    classes : int
        Over how many classes.
    gap : array of float64, shape (K,)
        Calibration in the large of each class: mean probability less share of positives.
    gap_intervals : list of K Interval or None
        Each for its class alone; of many, some leave 0 out by chance. None for one patient: nothing to resample.
    """

    attribute: str
    value: str
    records: int
    patients: int
    small: bool
    auroc: float
    auroc_interval: Interval | None
    classes: int
    gap: FloatArray
    gap_intervals: list[Interval | None]


def subgroups(
    y_true: npt.ArrayLike,
    p: npt.ArrayLike,
    attribute: str,
    values: Sequence[str | None],
    patients: npt.ArrayLike,
    *,
    ranked: npt.ArrayLike | None = None,
    small: int = SMALL,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Subgroup]:
    """Figures of the records with each value of an attribute, in the order of the values' names, their numbers by size.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels and probabilities.
    attribute : str
    values : sequence of n str or None
        None where it is not known.
    patients : array-like, shape (n,)
        Patient of each record: intervals are by patient.
    ranked : array-like, shape (n, K), optional
        Labels for the AUROC, if some classes are to be left out of it; their columns are constant.
    small : int
        Fewer patients than this, and a group is marked small.
    resamples, level, seed
        As in `einthoven.evaluation.bootstrap.bootstrap_interval`.

    Raises
    ------
    UserError
        If there is not one value and one patient a record, or as in `bootstrap_interval`.
    """
    positive, probability = check_probabilities(y_true, p)
    positive_for_auroc = positive if ranked is None else np.asarray(ranked).astype(np.bool_)
    names = np.array(["not known" if value is None else value for value in values])
    who = np.asarray(patients)
    if names.shape != (len(positive),) or who.shape != names.shape:
        raise UserError(
            f"subgroups by {attribute}: expected one value and one patient for each of {len(positive)} records, "
            f"found {len(names)} and {len(who)}."
        )
    found = []
    for value in sorted(set(names.tolist()), key=_numbers_by_size):
        rows = names == value
        label, stated = positive[rows], probability[rows]
        label_for_auroc = positive_for_auroc[rows]
        usable = label_for_auroc.any(axis=0) & ~label_for_auroc.all(axis=0)
        auroc, interval = np.nan, None
        if usable.any():
            auroc = macro_auroc(label_for_auroc, stated)
            interval = _auroc_interval(label_for_auroc, stated, resamples, level, seed, who[rows])
        difference = stated - label
        resampled_gaps = resampled(_means(difference), members_of(who[rows], len(label)), resamples, seed)
        number = len(np.unique(who[rows]))
        found.append(
            Subgroup(
                attribute=attribute,
                value=value,
                records=len(label),
                patients=number,
                small=number < small,
                auroc=float(auroc),
                auroc_interval=interval,
                classes=int(usable.sum()),
                gap=difference.mean(axis=0),
                gap_intervals=[interval_of(column, level) if number > 1 else None for column in resampled_gaps.T],
            )
        )
    return found


def age_bands(ages: npt.ArrayLike, edges: Sequence[int] = AGE_BANDS) -> list[str | None]:
    """Name the band of each age in years; None where it is not known (nan)."""
    names = [
        f"0 to {edges[0] - 1}",
        *(f"{a} to {b - 1}" for a, b in pairwise(edges)),
        f"{edges[-1]} +",
    ]
    years = np.asarray(ages, dtype=np.float64)
    bands = np.digitize(years, edges)
    return [None if np.isnan(age) else names[band] for age, band in zip(years, bands, strict=True)]


def _numbers_by_size(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _means(values: FloatArray) -> Statistic:
    """Column means under any counts."""
    return lambda counts: counts @ values / counts.sum(axis=1, keepdims=True)


def _auroc_interval(
    label: npt.ArrayLike, stated: npt.ArrayLike, resamples: int, level: float, seed: int, who: npt.ArrayLike
) -> Interval | None:
    """The interval, or None where no resample has a class with both labels: one patient, for instance."""
    try:
        return auroc_intervals(label, stated, resamples=resamples, level=level, seed=seed, groups=who)[0]
    except UserError:
        return None
