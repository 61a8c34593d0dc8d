"""The risk-coverage curve, and the coverage of each class by sets of labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.errors import UserError
from einthoven.evaluation.conformal import class_thresholds, coverage_per_class, missed_share, risk_control_threshold
from einthoven.evaluation.selective import abstention, risk_coverage, selective_metrics, wrong_decisions


@given(st.integers(0, 1000), st.integers(1, 30), st.booleans())
def test_the_risk_coverage_curve_is_that_of_a_loop(seed: int, n: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    loss, unsure = rng.uniform(size=n), rng.uniform(size=n)
    unsure = np.round(unsure, 1) if tied else unsure
    curve = risk_coverage(loss, unsure)
    for c, r in zip(curve.coverage, curve.risk, strict=True):
        answered = np.sort(unsure)[round(c * n) - 1]
        assert r == pytest.approx(loss[unsure <= answered].mean())
    assert curve.coverage[-1] == 1 and curve.risk[-1] == pytest.approx(loss.mean())
    drawn = []  # ties in random order: the mean over orders
    for _ in range(300 if tied else 1):
        order = rng.permutation(n)
        ordered = loss[order][np.argsort(unsure[order], kind="stable")]
        drawn.append((np.cumsum(ordered) / np.arange(1, n + 1)).mean())
    assert curve.area == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 17 + 1e-12)


def test_uncertainty_that_tells_nothing_gains_nothing() -> None:
    loss = np.random.default_rng(0).uniform(size=50)
    assert risk_coverage(loss, np.ones(50)).area == pytest.approx(loss.mean())
    assert risk_coverage(loss, loss).area < loss.mean() < risk_coverage(loss, -loss).area
    with pytest.raises(UserError, match="Finite"):
        risk_coverage([np.nan], [1.0])


def test_wrong_decisions_are_counted_by_label_or_by_record() -> None:
    y, p = np.array([[1, 0], [0, 1]]), np.array([[0.7, 0.6], [0.9, 0.1]])
    assert wrong_decisions(y, p, single_label=False) == pytest.approx([0.5, 1.0])
    assert wrong_decisions(y, p, single_label=True) == pytest.approx([0.0, 1.0])


def test_the_risk_at_a_share_of_records_is_that_of_the_surest_ones() -> None:
    loss = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    curve = risk_coverage(loss, [0.1, 0.2, 0.3, 0.3, 0.9])
    assert curve.risk_at(0.2) == 0 and curve.risk_at(0.4) == 0.5
    # Two records are equally uncertain, so that three of five cannot be answered.
    assert curve.risk_at(0.6) == curve.risk_at(0.8) == 0.5
    assert curve.risk_at(1.0) == pytest.approx(0.6)


# ---------------------------------------------------------------- the coverage of each class


def labelled(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A frequent class that is easily found, and a rare one that is not."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(size=(n, 2)) < [0.5, 0.2]
    return y, 1 / (1 + np.exp(-(y * [4.0, 1.0] - [2.0, 1.5] + rng.normal(size=(n, 2)))))


def test_each_class_is_covered_with_a_threshold_of_its_own() -> None:
    y, p = labelled(2000, 0)
    rng = np.random.default_rng(1)
    one, own = [], []
    for _ in range(200):
        order = rng.permutation(len(y))
        fit, new = order[:300], order[300:]
        own.append(coverage_per_class(y[new], p[new], class_thresholds(y[fit], p[fit], 0.1)))
        one.append(coverage_per_class(y[new], p[new], np.full(2, risk_control_threshold(y[fit], p[fit], 0.1))))
    error = np.std(own, axis=0) / np.sqrt(200)
    assert (np.mean(own, axis=0) >= 0.9 - 3 * error).all() and (np.mean(own, axis=0) < 0.93).all()
    # With one threshold for all classes, the rare one pays.
    assert np.mean(one, axis=0)[1] < 0.88 < np.mean(one, axis=0)[0]


@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([0.05, 0.1, 0.29]))
def test_a_threshold_is_the_largest_that_keeps_its_promise(seed: int, n: int, alpha: float) -> None:
    y, p = labelled(n, seed)
    found = class_thresholds(y, p, alpha)
    for k in range(2):
        values = np.sort(p[y[:, k], k])
        # Of n positive records and a new one, each rank of the new one is equally probable.
        promises = [t for i, t in enumerate(values) if (i + 1) / (len(values) + 1) <= alpha + 1e-12]
        assert found[k] == (max(promises) if promises else 0.0)


def test_the_metrics_of_an_evaluation_are_those_of_the_functions() -> None:
    fit, new = labelled(300, 2), labelled(200, 3)
    metrics = selective_metrics(*fit, *new, False, ("often", "rarely"))
    expected = coverage_per_class(*new, class_thresholds(*fit, 0.1))
    assert metrics["conformal/coverage_own/rarely"] == expected[1]
    assert metrics["conformal/least_coverage_own"] == expected.min()
    threshold = risk_control_threshold(*fit, 0.1)
    assert metrics["conformal/coverage/often"] == (new[1][new[0][:, 0], 0] >= threshold).mean()
    assert metrics["conformal/missed_10"] == missed_share(*new, threshold).mean()
    assert metrics["abstention/risk_80"] == abstention(*new, False).risk_at(0.8)
    # A class without a positive record has no coverage.
    without = np.column_stack([new[0][:, 0], np.zeros(200, bool)]), new[1]
    assert "conformal/coverage_own/rarely" not in selective_metrics(*fit, *without, False, ("often", "rarely"))
    with pytest.raises(UserError, match="alpha=0"):
        class_thresholds(*fit, 0)
