"""Runs that judged the same records, read from the predictions that they kept: by how much one is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.evaluation.comparison import Difference, paired_difference
from einthoven.runs.run_data import aggregate_rows, group_rows

_LABEL, _PROBABILITY = "_label", "_probability"


@dataclass(frozen=True)
class Judged:
    """What a run predicted of the records of a split.

    Attributes
    ----------
    records : ndarray of int, shape (n,)
        Their numbers, ascending.
    patients : ndarray of int, shape (n,), or None
        Which of them are of one person; None where the run did not keep that.
    classes : tuple of K str
    y, p : ndarray, shape (n, K)
        Labels and probabilities.
    """

    records: NDArray[np.int64]
    patients: NDArray[np.int64] | None
    classes: tuple[str, ...]
    y: NDArray[np.float64]
    p: NDArray[np.float64]


def judged(columns: Mapping[str, Sequence[float]], aggregate: str) -> Judged | None:
    """Read a table of predictions, as `einthoven.runs.conclude.predictions` makes it.

    Parameters
    ----------
    columns : mapping of str to sequence
        With a row per window.
    aggregate : str
        How the windows of a record are made one: ``mean`` or ``max``.

    Returns
    -------
    Judged or None
        None where the table is not of classes.
    """
    classes = tuple(sorted(name.removesuffix(_LABEL) for name in columns if name.endswith(_LABEL)))
    if not classes:
        return None
    ids = np.asarray(columns["record_id"], np.int64)
    y, p = (np.array([columns[f"{name}{end}"] for name in classes], np.float64).T for end in (_LABEL, _PROBABILITY))
    first, record_of_row = group_rows(ids)
    y, p = aggregate_rows(y, record_of_row, "mean"), aggregate_rows(p, record_of_row, aggregate)
    order = np.argsort(ids[first])
    patients = np.asarray(columns["patient"], np.int64)[first][order] if "patient" in columns else None
    return Judged(ids[first][order], patients, classes, y[order], p[order])


def difference(first: Judged, other: Judged) -> Difference:
    """Macro AUROC of the other less that of the first, on the same records and the same classes.

    Patients are resampled, or records where one of the runs did not keep whose they are.

    Raises
    ------
    UserError
        Says why the two cannot be compared.
    """
    if first.classes != other.classes:
        raise UserError("their classes differ.")
    if not np.array_equal(first.records, other.records):
        both = len(np.intersect1d(first.records, other.records))
        raise UserError(
            f"their records differ: {len(first.records):,} and {len(other.records):,}, of which {both:,} are the same."
        )
    if not np.array_equal(first.y, other.y):
        changed = int((first.y != other.y).any(axis=1).sum())
        raise UserError(f"the labels of {changed:,} of their {len(first.y):,} records differ.")
    groups = None if other.patients is None else first.patients
    return paired_difference(first.y, first.p, other.p, groups=groups)
