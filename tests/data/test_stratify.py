from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.data.sources.stratify import stratified_folds


def problem(seed: int, n: int, classes: int, patients: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.random((n, classes)) < rng.beta(0.5, 10, classes), rng.integers(0, patients, n)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 5), st.integers(1, 40), st.integers(2, 10))
def test_patients_stay_whole_and_the_order_of_records_does_not_matter(
    seed: int, n: int, classes: int, patients: int, folds: int
) -> None:
    y, patient = problem(seed, n, classes, patients)
    found = stratified_folds(y, patient, folds=folds)
    assert found.shape == (n,) and found.min() >= 1 and found.max() <= folds
    assert all(len(set(found[patient == who])) == 1 for who in set(patient))
    order = np.random.default_rng(seed).permutation(n)
    assert (stratified_folds(y[order], patient[order], folds=folds) == found[order]).all()


@pytest.mark.parametrize("n", [200, 1003])
def test_one_class_a_record_is_spread_to_the_last_record(n: int) -> None:
    y = np.eye(4, dtype=bool)[np.random.default_rng(0).choice(4, n, p=[0.02, 0.08, 0.3, 0.6])]
    folds = stratified_folds(y, np.arange(n))
    counts = np.array([y[folds == k].sum(axis=0) for k in range(1, 11)])
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_many_classes_are_spread_far_better_than_by_chance() -> None:
    """The label distribution measure of Sechidis et al. 2011, equation 1, of frequencies."""
    y, patient = problem(1, 5000, 30, 4000)

    def distribution(folds: NDArray[np.int64]) -> float:
        parts = [y[folds == k].mean(axis=0) for k in range(1, 11)]
        return float(np.mean(np.abs(np.array(parts) - y.mean(axis=0))))

    chance = np.random.default_rng(0).integers(1, 11, patient.max() + 1)[patient]
    assert distribution(stratified_folds(y, patient)) < 0.2 * distribution(chance)


def test_a_class_of_as_many_records_as_folds_has_one_in_each() -> None:
    y = np.zeros((500, 1), dtype=bool)
    y[np.random.default_rng(0).choice(500, 10, replace=False)] = True
    folds = stratified_folds(y, np.arange(500))
    assert sorted(folds[y[:, 0]]) == list(range(1, 11))
    assert set(np.bincount(folds)[1:]) == {50}
