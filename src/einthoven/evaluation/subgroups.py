"""Metrics of subgroups of the records: by age, sex, site, device or noise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from einthoven.errors import UserError
from einthoven.evaluation.bootstrap import auroc_intervals
from einthoven.evaluation.intervals import Interval, compute_interval
from einthoven.evaluation.metrics import FloatArray, have_both_labels, macro_auroc
from einthoven.evaluation.resampling import Statistic, number_groups, resample_statistic
from einthoven.evaluation.scores import check_probabilities

SMALL = 50
"""A subgroup with fewer patients is marked as small."""

AGE_BANDS = (40, 60, 80)
"""Limits of the age bands in years."""


@dataclass(frozen=True)
class Subgroup:
    """Metrics of one subgroup.

    Attributes
    ----------
    attribute, value : str
        For example ``sex`` and ``female``.
    records, patients : int
        Numbers of records and patients.
    small : bool
        Whether the subgroup has fewer patients than the limit. Its metrics are very uncertain.
    auroc : float
        Macro AUROC over the classes with both labels in the subgroup. nan if there is no such class.
    auroc_interval : Interval or None
        Interval of `auroc`.
    classes : int
        Number of classes in the macro AUROC.
    gap : array of float64, shape (K,)
        Calibration in the large of each class: mean probability minus share of positives.
    gap_intervals : list of K Interval or None
        Interval of each gap. They are not corrected for multiple comparisons. So with many classes, some exclude 0 by
        chance. None if the subgroup has only one patient.
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
    """Compute metrics of the records with each value of an attribute.

    The subgroups are sorted by the name of the value. Numbers inside of names are sorted by size.

    Parameters
    ----------
    y_true, p : array-like, shape (n, K)
        Labels and probabilities.
    attribute : str
        Name of the attribute.
    values : sequence of n str or None
        Value of each record. None means that the value is not known.
    patients : array-like, shape (n,)
        Patient of each record. The resamples for the intervals are by patient.
    ranked : array-like, shape (n, K), optional
        Labels for the AUROC, if they differ from `y_true`. A class with a constant column is left out of the AUROC.
    small : int
        A subgroup with fewer patients is marked as small.
    resamples, level, seed
        As in `einthoven.evaluation.bootstrap.bootstrap_interval`.

    Raises
    ------
    UserError
        If there is not one value and one patient per record, or as in `bootstrap_interval`.
    """
    positive, probability = check_probabilities(y_true, p)
    positive_for_auroc = positive if ranked is None else np.asarray(ranked).astype(np.bool_)
    value_of_record = np.array(["not known" if value is None else value for value in values])
    patient_of_record = np.asarray(patients)
    if value_of_record.shape != (len(positive),) or patient_of_record.shape != value_of_record.shape:
        raise UserError(
            f"subgroups by {attribute}: expected one value and one patient for each of {len(positive)} records, "
            f"found {len(value_of_record)} and {len(patient_of_record)}."
        )
    groups = []
    for value in sorted(set(value_of_record.tolist()), key=_natural_order):
        rows = value_of_record == value
        patient = patient_of_record[rows]
        num_patients = len(np.unique(patient))

        # Classes without both labels in this subgroup have no AUROC.
        label_for_auroc = positive_for_auroc[rows]
        has_both_labels = have_both_labels(label_for_auroc)
        auroc = np.nan
        auroc_interval = None
        if has_both_labels.any():
            auroc = macro_auroc(label_for_auroc, probability[rows])
            auroc_interval = _auroc_interval(label_for_auroc, probability[rows], resamples, level, seed, patient)

        # With a single patient, all resamples are equal, so there is no interval.
        difference = probability[rows] - positive[rows]
        group_of_record = number_groups(patient, len(difference))
        resampled_gaps = resample_statistic(_weighted_means(difference), group_of_record, resamples, seed)
        gap_intervals: list[Interval | None] = [None] * difference.shape[1]
        if num_patients > 1:
            gap_intervals = [compute_interval(column, level) for column in resampled_gaps.T]
        groups.append(
            Subgroup(
                attribute=attribute,
                value=value,
                records=len(difference),
                patients=num_patients,
                small=num_patients < small,
                auroc=float(auroc),
                auroc_interval=auroc_interval,
                classes=int(has_both_labels.sum()),
                gap=difference.mean(axis=0),
                gap_intervals=gap_intervals,
            )
        )
    return groups


def age_bands(ages: npt.ArrayLike) -> list[str | None]:
    """Return the name of the band of each age in years. None if the age is not known (nan)."""
    names = [
        f"0 to {AGE_BANDS[0] - 1}",
        *(f"{a} to {b - 1}" for a, b in pairwise(AGE_BANDS)),
        f"{AGE_BANDS[-1]} +",
    ]
    years = np.asarray(ages, dtype=np.float64)
    bands = np.digitize(years, AGE_BANDS)
    return [None if np.isnan(age) else names[band] for age, band in zip(years, bands, strict=True)]


def _natural_order(name: str) -> list[str | int]:
    """Return a key that sorts numbers inside of names by size."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _weighted_means(values: FloatArray) -> Statistic:
    """Return the means of the columns as a statistic of the counts of the records."""
    return lambda counts: counts @ values / counts.sum(axis=1, keepdims=True)


def _auroc_interval(
    label: npt.ArrayLike,
    probability: npt.ArrayLike,
    resamples: int,
    level: float,
    seed: int,
    patients: npt.ArrayLike,
) -> Interval | None:
    """Return the interval of the macro AUROC, or None if no resample has a class with both labels."""
    try:
        return auroc_intervals(label, probability, resamples=resamples, level=level, seed=seed, groups=patients)[0]
    except UserError:
        return None
