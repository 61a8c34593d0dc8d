"""Confident learning against a direct loop and its theory, and margins against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.evaluation import label_errors


def direct_joint(y: NDArray[np.bool_], p: NDArray[np.float64]) -> NDArray[np.int64]:
    """Equation 1 of Northcutt et al. 2021 for one class against the rest, record by record."""
    columns = [1.0 - p, p]
    thresholds = []
    for outcome in (0, 1):
        own = [columns[outcome][i] for i in range(len(y)) if int(y[i]) == outcome]
        thresholds.append(sum(own) / len(own) if own else np.inf)
    joint = np.zeros((2, 2), np.int64)
    for i in range(len(y)):
        reached = [outcome for outcome in (0, 1) if columns[outcome][i] >= thresholds[outcome]]
        if reached:
            joint[int(y[i]), max(reached, key=lambda outcome: columns[outcome][i])] += 1
    return joint


@st.composite
def predictions(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels and probabilities. Eighths and their complements are exact, so that ties are the same everywhere."""
    n = draw(st.integers(1, 8))
    y = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    p = draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))
    return np.array(y)[:, None], np.array(p)[:, None] / 8.0


@settings(max_examples=100, deadline=None)
@given(predictions())
def test_the_confident_joint_is_that_of_a_direct_loop(case: tuple[NDArray[np.bool_], NDArray[np.float64]]) -> None:
    y, p = case
    # A sum of eighths over 1, 2, 4 or 8 records is exact. Of the others, the order of the sum must not matter.
    if any(count not in (0, 1, 2, 4, 8) for count in (y.sum(), (~y).sum())):
        p = p + np.linspace(0, 1e-3, len(p))[:, None] * (p < 1)
    joint = label_errors.confident_joint(y, p)
    assert np.array_equal(joint[0], direct_joint(y[:, 0], p[:, 0]))
    wrong = label_errors.is_confident_error(y, p)
    assert wrong.sum() == joint[0, 0, 1] + joint[0, 1, 0]
    calibrated = label_errors.calibrated_joint(joint, y)[0]
    assert calibrated.sum(axis=1) == pytest.approx([(~y).sum(), y.sum()])


def test_ideal_probabilities_find_each_error() -> None:
    """Theorem 1 of Northcutt et al. 2021: if p is that of the noise process, the errors and the joint are exact."""
    rng = np.random.default_rng(0)
    truth = rng.random((4000, 3)) < (0.5, 0.1, 0.8)
    wrong_negative, wrong_positive = 0.3, 0.2
    is_flipped = rng.random(truth.shape) < np.where(truth, wrong_negative, wrong_positive)
    y = truth ^ is_flipped
    p = np.where(truth, 1 - wrong_negative, wrong_positive)
    assert np.array_equal(label_errors.is_confident_error(y, p), is_flipped)
    joint = label_errors.calibrated_joint(label_errors.confident_joint(y, p), y)
    expected = [[[((y[:, k] == g) & (truth[:, k] == t)).sum() for t in (0, 1)] for g in (0, 1)] for k in range(3)]
    assert joint == pytest.approx(np.array(expected))


def test_the_joint_of_the_published_example_is_scaled_to_the_counts() -> None:
    """Two rows of the example in figure 1 of Northcutt et al. 2021, of which each class has twice as many records."""
    counts = np.array([[[100, 40], [56, 60]]])
    y = np.repeat([False, True], [280, 232])[:, None]
    assert label_errors.calibrated_joint(counts, y) == pytest.approx(2 * counts)


def test_a_class_without_positive_records_has_no_errors() -> None:
    y = np.zeros((5, 1), bool)
    p = np.linspace(0, 0.9, 5)[:, None]
    assert not label_errors.is_confident_error(y, p).any()
    joint = label_errors.confident_joint(y, p)
    assert joint[0, 1].tolist() == [0, 0]
    assert label_errors.calibrated_joint(joint, y)[0].tolist() == [[5, 0], [0, 0]]


def test_a_margin_is_the_log_odds_with_the_sign_of_the_label() -> None:
    p = np.array([[0.8, 0.8], [0.0, 1.0]])
    y = np.array([[True, False], [False, False]])
    margins = label_errors.margins(y, label_errors.log_odds(p))
    assert margins[0] == pytest.approx([np.log(4), -np.log(4)])
    assert np.isfinite(margins).all() and margins[1, 0] > 13 and margins[1, 1] < -13


def test_conflicts_are_those_of_a_direct_count() -> None:
    """The first two classes exclude one another but for one record. The third goes with both."""
    y = np.zeros((40, 3), bool)
    y[:20, 0] = True
    y[19:35, 1] = True
    y[::2, 2] = True
    y[19, 2] = True
    conflicts = label_errors.label_conflicts(y)
    expected = np.log((21 / 40) * (17 / 40) / (2 / 40))
    assert conflicts[19, :2] == pytest.approx([expected, expected])
    # 11 of the 21 records of the third class are positive in the first, which is a bit more than chance.
    assert conflicts[:19, [0, 2]].max() == 0.0
    assert (conflicts >= 0).all() and (conflicts[~y] == 0).all()


def test_records_are_ranked_by_their_most_suspicious_label() -> None:
    y = np.array([[True, False], [True, True], [False, False]])
    p = np.array([[0.9, 0.6], [0.2, 0.9], [0.1, 0.1]])
    ranking = label_errors.rank_labels(y, p)
    assert ranking.order.tolist() == [1, 0, 2]
    assert ranking.record_scores == pytest.approx(np.log([1.5, 4.0, 1 / 9]))
    # The log-odds of the training speak against the first label of the last record.
    odds = np.array([[2.0, -2.0], [2.0, 2.0], [9.0, -2.0]])
    ranking = label_errors.rank_labels(y, p, odds)
    assert ranking.order.tolist() == [2, 1, 0]
    assert ranking.record_scores[2] == pytest.approx((9 - np.log(9)) / 2)
    # A record without log-odds of the training has the score of its prediction.
    odds[0] = np.nan
    ranking = label_errors.rank_labels(y, p, odds)
    assert ranking.record_scores[0] == pytest.approx(np.log(1.5))
    assert ranking.record_scores[2] == pytest.approx((9 - np.log(9)) / 2)
