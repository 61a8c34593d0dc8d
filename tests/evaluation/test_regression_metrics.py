"""Errors and R² against scikit-learn, their intervals against resampling record by record."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from einthoven.evaluation.regression import NAMES, angular_difference, intervals, scores
from einthoven.evaluation.resampling import number_groups, resample_counts


def targets_and_predictions(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.normal(70, 15, (n, 1))
    return y, y + rng.normal(1, 5, (n, 1))


def by_sklearn(y: np.ndarray, p: np.ndarray) -> list[float]:
    return [mean_absolute_error(y, p), root_mean_squared_error(y, p), r2_score(y, p)]


def test_scores_are_those_of_scikit_learn() -> None:
    y, p = targets_and_predictions()
    np.testing.assert_allclose(scores((p - y)[:, 0], y, p)[0], by_sklearn(y, p))


def test_scores_of_a_resample_are_those_of_its_records() -> None:
    y, p = targets_and_predictions()
    counts = resample_counts(number_groups(np.arange(60) // 2, 60), 20, np.random.default_rng(1))
    expected = [by_sklearn(*(np.repeat(values, row.astype(int), axis=0) for values in (y, p))) for row in counts]
    np.testing.assert_allclose(scores((p - y)[:, 0], y, p, counts), expected)


def test_r2_of_several_columns_adds_their_squares_and_of_a_constant_is_not_defined() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(2, 30, 2))
    expected = r2_score(y, p, multioutput="variance_weighted")
    assert scores(np.zeros(30), y, p)[0, 2] == pytest.approx(expected)
    same = np.full((30, 1), 72.3)
    assert np.isnan(scores(np.zeros(30), same, same + 1)[0, 2])
    assert intervals(np.ones(30), same, same + 1).keys() == {"mae", "rmse"}


def test_intervals_hold_the_estimate_and_cover_the_truth() -> None:
    inside = np.zeros(3)
    truth = scores(*_errors(*targets_and_predictions(200_000, seed=99)))[0]
    for seed in range(60):
        y, p = targets_and_predictions(100, seed)
        found = intervals(*_errors(y, p), resamples=200, seed=seed)
        assert list(found) == list(NAMES)
        inside += [i.low <= t <= i.high for i, t in zip(found.values(), truth, strict=True)]
    assert (inside >= 50).all()  # of 60, at a nominal 57


def test_patients_are_drawn_whole() -> None:
    """Twice the same records under one patient give the interval of the records once."""
    y, p = targets_and_predictions()
    once = intervals(*_errors(y, p), seed=3)
    both = [np.repeat(values, 2, axis=0) for values in (y, p)]
    twice = intervals(*_errors(*both), seed=3, groups=np.repeat(np.arange(60), 2))
    for name in NAMES:
        assert twice[name].low == pytest.approx(once[name].low) and twice[name].high == pytest.approx(once[name].high)


def _errors(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (p - y)[:, 0], y, p


@given(st.floats(-720, 720), st.floats(-720, 720))
def test_the_difference_of_angles_is_the_smaller_arc(a: float, b: float) -> None:
    found = float(angular_difference(np.array(a), np.array(b)))
    assert -180 <= found < 180
    chord = abs(np.exp(1j * np.radians(a)) - np.exp(1j * np.radians(b)))
    assert 2 * np.sin(np.radians(abs(found)) / 2) == pytest.approx(chord, abs=1e-9)
