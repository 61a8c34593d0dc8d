"""Two runs are compared only if their records, labels and patients are the same."""

from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.runs.comparison.paired import LoggedPredictions, auroc_difference

Y = np.tile([[1.0], [0.0]], (20, 1))
P = np.random.default_rng(0).uniform(size=(40, 1))


def logged(patients: list[int] | None) -> LoggedPredictions:
    numbers = None if patients is None else np.array(patients)
    return LoggedPredictions(np.arange(40), numbers, ("MI",), Y, P)


def test_other_numbers_of_the_same_patients_are_the_same_groups() -> None:
    first = logged([i // 2 for i in range(40)])
    other = logged([100 - i // 2 for i in range(40)])
    assert auroc_difference(first, other).difference == 0


@pytest.mark.parametrize("patients", [list(range(40)), [i // 4 for i in range(40)], [(i + 1) // 2 for i in range(40)]])
def test_other_groups_are_refused(patients: list[int]) -> None:
    with pytest.raises(UserError, match="different patients"):
        auroc_difference(logged([i // 2 for i in range(40)]), logged(patients))


def test_runs_without_patients_are_compared_by_record() -> None:
    assert auroc_difference(logged(None), logged([0] * 40)).difference == 0
