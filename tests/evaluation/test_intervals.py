"""BCa against scipy, DeLong against its own definition, and comparisons that know what is true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from einthoven.errors import UserError
from einthoven.evaluation import intervals, resampling
from einthoven.evaluation.bootstrap import auroc_intervals, bootstrap_interval
from einthoven.evaluation.comparison import paired_difference
from einthoven.evaluation.delong import delong
from einthoven.evaluation.metrics import auroc_per_class, macro_auprc, macro_auroc
from einthoven.evaluation.seeds import across_seeds


def case(seed: int, n: int, classes: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.random((n, classes)) < rng.uniform(0.1, 0.7, classes)
    p = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + 1.5 * y)))
    return y.astype(int), np.round(p * levels) / levels if levels else p


@pytest.mark.parametrize("levels", [None, 4])
def test_bca_equals_scipy_on_scipys_own_resamples(levels: int | None) -> None:
    y, p = case(0, 60, 1, levels)

    def auroc(rows: np.ndarray) -> float:
        return float(roc_auc_score(y[rows, 0], p[rows, 0]))

    found = stats.bootstrap(
        (np.arange(60),), auroc, vectorized=False, n_resamples=400, method="BCa", rng=np.random.default_rng(1)
    )
    left_out = np.array([auroc(np.delete(np.arange(60), i)) for i in range(60)])
    ours = intervals.compute_interval(
        found.bootstrap_distribution, 0.95, estimate=auroc(np.arange(60)), left_out=left_out
    )
    assert (ours.low, ours.high) == pytest.approx(tuple(found.confidence_interval), abs=1e-12)
    plain = intervals.compute_interval(found.bootstrap_distribution, 0.95)
    assert (plain.low, plain.high) != (ours.low, ours.high)


def slow_interval(y: np.ndarray, p: np.ndarray, patients: np.ndarray, method: str) -> intervals.Interval:
    """The interval from 70 resamples of the macro AUROC in which records are repeated."""
    statistic = resampling.repeat_records(macro_auroc, y.astype(bool), p)
    groups = resampling.number_groups(patients, len(y))
    values = resampling.resample_statistic(statistic, groups, 70, 0)[:, 0]
    left_out = resampling.leave_one_out(statistic, groups)[:, 0] if method == "bca" else None
    return intervals.compute_interval(values, 0.95, estimate=macro_auroc(y, p), left_out=left_out)


def test_the_fast_intervals_are_those_of_repeated_records() -> None:
    y, p = case(3, 80, 3, 20)
    patients = np.arange(80) // 2
    for method in ("percentile", "bca"):
        fast, per_class = auroc_intervals(y, p, resamples=70, groups=patients, method=method)
        slow = slow_interval(y, p, patients, method)
        assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=1e-12)
        for k, interval in enumerate(per_class):
            one = slow_interval(y[:, [k]], p[:, [k]], patients, method)
            assert (interval.low, interval.high) == pytest.approx((one.low, one.high), abs=1e-12)
            assert interval.low <= auroc_per_class(y, p)[k] <= interval.high


def test_a_class_without_both_labels_has_no_interval_and_does_not_touch_the_others() -> None:
    y, p = case(4, 90, 3)
    with_empty = np.insert(y, 1, 0, axis=1), np.insert(p, 1, 0.5, axis=1)
    macro, per_class = auroc_intervals(*with_empty, resamples=50)
    expected, others = auroc_intervals(y, p, resamples=50)
    assert macro == expected and per_class == [others[0], None, *others[1:]]


def test_bca_of_a_perfect_score_is_the_percentile_interval() -> None:
    y = np.repeat([[0], [1]], 20, axis=0)
    assert bootstrap_interval(y, y, method="bca") == bootstrap_interval(y, y)


# ---------------------------------------------------------------- two models


def test_a_model_is_as_good_as_itself() -> None:
    y, p = case(5, 200, 4)
    same = paired_difference(y, p, 3 * p - 1, resamples=100)
    assert (same.difference, same.interval.low, same.interval.high, same.p) == pytest.approx((0, 0, 0, 1), abs=1e-12)


@pytest.mark.parametrize("metric", [macro_auroc, macro_auprc])
def test_a_better_model_is_found_better(metric: resampling.Metric) -> None:
    y, b = case(6, 250, 3)
    a = b + np.random.default_rng(0).normal(0, 0.5, b.shape)
    found = paired_difference(y, a, b, metric, resamples=120)
    assert found.difference == pytest.approx(metric(y, b) - metric(y, a), abs=1e-12)
    assert 0 < found.interval.low < found.difference < found.interval.high
    assert found.p == pytest.approx(2 / 121)
    mirrored = paired_difference(y, b, a, metric, resamples=120)
    assert (mirrored.difference, mirrored.p) == (-found.difference, found.p)
    assert found.classes == 3 and found.interval.resamples == 120


def test_the_fast_difference_is_the_slow_one() -> None:
    y, b = case(7, 60, 3, 5)
    y[:, 2] = 0
    a = case(8, 60, 3, 5)[1]
    fast = paired_difference(y, a, b, resamples=70)
    slow = paired_difference(y, a, b, lambda t, s: macro_auroc(t, s), resamples=70)
    assert (fast.difference, fast.interval.low, fast.interval.high, fast.p) == pytest.approx(
        (slow.difference, slow.interval.low, slow.interval.high, slow.p), abs=1e-12
    )
    assert fast.classes == 2


def test_under_no_difference_p_is_uniform() -> None:
    rng = np.random.default_rng(9)
    values = []
    for trial in range(150):
        y = (np.arange(100) % 2)[:, None]
        a, b = (rng.normal(size=(100, 1)) + y for _ in range(2))
        values.append(paired_difference(y, a, b, resamples=200, seed=trial).p)
    assert stats.kstest(values, "uniform").pvalue > 0.001
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.08)


# ---------------------------------------------------------------- DeLong


@given(st.integers(0, 10_000), st.sampled_from([None, 2, 5]))
@settings(max_examples=25, deadline=None)
def test_delong_equals_its_definition_over_pairs(seed: int, levels: int | None) -> None:
    y, p = case(seed, 40, 1, levels)
    label = y[:, 0]
    if not 2 <= label.sum() <= 38:
        return
    scores = np.column_stack([p[:, 0], case(seed + 1, 40, 1, levels)[1][:, 0]])
    found = delong(label, scores)
    pos, neg = scores[label == 1], scores[label == 0]
    psi = (pos[:, None] > neg[None]) + 0.5 * (pos[:, None] == neg[None])  # (P, N, 2)
    v10, v01 = psi.mean(axis=1), psi.mean(axis=0)
    expected = np.cov(v10, rowvar=False) / len(pos) + np.cov(v01, rowvar=False) / len(neg)
    np.testing.assert_allclose(found.covariance, expected, atol=1e-12)
    for m in range(2):
        assert found.auroc[m] == pytest.approx(roc_auc_score(label, scores[:, m]), abs=1e-12)


def test_delong_and_the_bootstrap_agree() -> None:
    y, b = case(11, 600, 1)
    a = b + np.random.default_rng(1).normal(0, 0.15, b.shape)
    by_pairs = delong(y[:, 0], np.column_stack([a, b]))
    interval = bootstrap_interval(y, b, resamples=2000)
    assert by_pairs.interval()[1] == pytest.approx([interval.low, interval.high], abs=0.006)
    difference, error, p = by_pairs.difference()
    resampled = paired_difference(y, a, b, resamples=2000)
    assert difference == pytest.approx(resampled.difference, abs=1e-12)
    assert 2 * 1.96 * error == pytest.approx(resampled.interval.high - resampled.interval.low, rel=0.15)
    assert abs(p - resampled.p) < 0.05


def test_delong_of_one_score_twice() -> None:
    y, p = case(12, 50, 1)
    assert delong(y[:, 0], np.column_stack([p, p])).difference() == (0.0, 0.0, 1.0)


def test_seeds_are_mean_and_sample_deviation() -> None:
    found = across_seeds([{"auroc": 0.8, "loss": 1.0}, {"auroc": 0.9}, {"auroc": 0.85, "loss": 2.0}])
    assert set(found) == {"auroc"}
    assert (found["auroc"].mean, found["auroc"].sd, found["auroc"].n) == pytest.approx((0.85, 0.05, 3))
    assert str(found["auroc"]) == "0.8500 ± 0.0500"


def test_nonsense_is_refused_with_a_sentence() -> None:
    y, p = case(1, 20, 2)
    with pytest.raises(UserError, match="percentile, bca, found normal"):
        bootstrap_interval(y, p, method="normal")
    with pytest.raises(UserError, match="found none"):
        paired_difference(np.zeros((5, 2)), np.zeros((5, 2)), np.zeros((5, 2)))
    with pytest.raises(UserError, match="two records of each label, found 1 and 2"):
        delong([1, 0, 0], [[0.1], [0.2], [0.3]])
    with pytest.raises(UserError, match="two runs or more, found 1"):
        across_seeds([{"a": 1.0}])
    with pytest.raises(UserError, match="no metric in common"):
        across_seeds([{"a": 1.0}, {"b": 1.0}])
