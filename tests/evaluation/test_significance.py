"""Tests over trainings and the correction for many comparisons, against scipy, closed forms and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from einthoven.errors import UserError
from einthoven.evaluation.comparison import Difference, difference_of_means, paired_difference
from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.significance import (
    BETTER,
    NOT_ESTABLISHED,
    WORSE,
    Comparison,
    TrainingTest,
    benjamini_hochberg,
    corrected_t_test,
    judge,
)

RNG = np.random.default_rng(0)
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


# ---------------------------------------------------------------- the corrected t-test


def test_without_overlap_it_is_the_paired_t_test() -> None:
    differences = RNG.normal(0.3, 1, 8)
    found = corrected_t_test(differences, 0.0, level=0.9)
    expected = stats.ttest_1samp(differences, 0)
    interval = expected.confidence_interval(0.9)
    assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, interval.low, interval.high))
    assert found.trainings == 8 and found.difference == pytest.approx(differences.mean())


def test_the_variance_of_overlapping_trainings_is_larger() -> None:
    # Ten folds: the correction multiplies the variance of the mean by 1 + 10/9.
    differences = RNG.normal(0.3, 1, 10)
    t = differences.mean() / np.sqrt((1 / 10 + 1 / 9) * differences.var(ddof=1))
    found = corrected_t_test(differences, 1 / 9)
    assert found.p == pytest.approx(2 * stats.t(9).sf(abs(t)))
    plain = corrected_t_test(differences, 0)
    assert (found.high - found.low) / (plain.high - plain.low) == pytest.approx(np.sqrt(1 + 10 / 9))


def test_equal_differences_have_no_variance() -> None:
    assert corrected_t_test([0.0, 0.0], 0.1).p == 1
    assert corrected_t_test([0.5, 0.5], 0.1) == TrainingTest(0.5, 0.5, 0.5, 0.0, 2)


def test_two_equal_algorithms_are_rarely_called_different() -> None:
    """Random splits of the same records into training and test, and nearest means of equally informative features."""
    rng = np.random.default_rng(1)
    trials, n, splits = 300, 60, 12
    label = np.arange(n) % 2
    x = rng.normal(size=(2, trials, n, 3)) + 0.6 * label[:, None]
    accuracy = np.empty((2, trials, splits))
    for split in range(splits):
        is_test = rng.permutation(n) < n // 5
        means = [x[:, :, ~is_test & (label == k)].mean(axis=2, keepdims=True) for k in (0, 1)]
        distance = [np.square(x[:, :, is_test] - mean).sum(axis=-1) for mean in means]
        accuracy[:, :, split] = ((distance[1] < distance[0]) == label[is_test]).mean(axis=2)
    differences = accuracy[1] - accuracy[0]
    corrected = np.mean([corrected_t_test(d, 0.25).p < 0.05 for d in differences])
    plain = np.mean([corrected_t_test(d, 0).p < 0.05 for d in differences])
    # The standard error of a share of 5 % of 300 trials is 1.3 %. The plain t-test takes the splits for independent.
    assert corrected == pytest.approx(0.05, abs=0.035)
    assert plain > 0.15


# ---------------------------------------------------------------- many comparisons


@given(P_VALUES)
@settings(max_examples=60, deadline=None)
def test_adjusted_p_values_are_those_of_scipy(p: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p, method="bh"))


@given(P_VALUES, st.integers(0, 11), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_larger_p_value_makes_no_adjusted_p_value_smaller(p: list[float], place: int, larger: float) -> None:
    before = benjamini_hochberg(p)
    assert (before >= np.array(p) - 1e-12).all() and (before <= 1).all()
    # The order of the p-values stays.
    assert (np.diff(before[np.argsort(p)]) >= -1e-12).all()
    place %= len(p)
    raised = [max(value, larger) if i == place else value for i, value in enumerate(p)]
    assert (benjamini_hochberg(raised) >= before - 1e-12).all()


def test_the_false_discovery_rate_of_true_hypotheses_is_near_nominal() -> None:
    p = np.random.default_rng(2).uniform(size=(400, 20))
    # If all hypotheses are true, the false discovery rate is the share of trials with a discovery: q for independent p.
    found = np.mean([(benjamini_hochberg(trial) <= 0.1).any() for trial in p])
    assert found == pytest.approx(0.1, abs=0.045)


def test_comparisons_with_one_reference_keep_the_false_discovery_rate() -> None:
    rng = np.random.default_rng(3)
    models = rng.normal(size=(400, 21))
    is_better = np.arange(20) >= 10
    z = (models[:, 1:] - models[:, :1]) / np.sqrt(2) + 2.5 * is_better
    found = [benjamini_hochberg(p) <= 0.1 for p in 2 * stats.norm.sf(abs(z))]
    assert np.mean([trial[is_better].mean() for trial in found]) > 0.3
    assert np.mean([trial[~is_better].sum() / max(trial.sum(), 1) for trial in found]) < 0.1


# ---------------------------------------------------------------- comparisons in words


def comparison(difference: float, p: float, trainings: TrainingTest | None = None) -> Comparison:
    interval = Interval(difference - 0.01, difference + 0.01, 0.95, 1000, 1000, 0.0)
    return Comparison("rhythm", "b", "a", Difference(difference, interval, p, 5), trainings)


def test_a_difference_has_to_hold_for_records_and_trainings() -> None:
    sure = TrainingTest(0.02, 0.01, 0.03, 0.001, 9)
    unsure = TrainingTest(0.02, -0.01, 0.05, 0.2, 9)
    opposite = TrainingTest(-0.02, -0.03, -0.01, 0.001, 9)
    judgements = judge(
        [
            comparison(0.02, 0.002, sure),
            comparison(0.02, 0.002, unsure),
            comparison(0.02, 0.002, opposite),
            comparison(-0.02, 0.002),
            comparison(0.0, 0.001),
        ]
    )
    assert [judgement.verdict for judgement in judgements] == [
        BETTER,
        NOT_ESTABLISHED,
        NOT_ESTABLISHED,
        WORSE,
        NOT_ESTABLISHED,
    ]
    assert [judgement.comparison.p for judgement in judgements] == [0.002, 0.2, 0.002, 0.002, 0.001]
    expected = stats.false_discovery_control([0.002, 0.2, 0.002, 0.002, 0.001])
    assert [judgement.adjusted_p for judgement in judgements] == pytest.approx(expected)
    # Among many comparisons, the same p-value establishes nothing.
    many = judge([comparison(0.02, 0.02), *[comparison(0.01, 0.9)] * 9])
    assert many[0].verdict == NOT_ESTABLISHED and many[0].adjusted_p == pytest.approx(0.2)


def test_the_difference_of_means_is_the_mean_of_the_differences() -> None:
    y = (RNG.uniform(size=(80, 2)) < 0.4).astype(float)
    scores = [y + RNG.normal(0, noise, y.shape) for noise in (0.8, 1.0, 1.2, 1.4)]
    apart = [paired_difference(y, a, b, resamples=50).difference for a in scores[:2] for b in scores[2:]]
    together = difference_of_means(y, scores[:2], scores[2:], resamples=50)
    assert together.difference == pytest.approx(np.mean(apart))
    assert together.interval.low <= together.difference <= together.interval.high
    repeated = difference_of_means(y, scores[:1] * 2, scores[1:2] * 3, resamples=50).interval
    single = paired_difference(y, scores[0], scores[1], resamples=50).interval
    assert (repeated.low, repeated.high) == pytest.approx((single.low, single.high))


def test_nonsense_is_refused_with_a_sentence() -> None:
    with pytest.raises(UserError, match="two finite differences or more"):
        corrected_t_test([0.1], 0.1)
    with pytest.raises(UserError, match="two finite differences or more"):
        corrected_t_test([0.1, np.nan], 0.1)
    with pytest.raises(UserError, match="expected a ratio"):
        corrected_t_test([0.1, 0.2], -1)
    with pytest.raises(UserError, match="between 0 and 1"):
        corrected_t_test([0.1, 0.2], 0.1, level=95)
    with pytest.raises(UserError, match=r"p-values in 0 \.\.\. 1"):
        benjamini_hochberg([0.5, 1.5])
