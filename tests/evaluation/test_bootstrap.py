"""The weighted AUROC against scikit-learn on records repeated one by one, and the interval's honesty."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from einthoven.errors import UserError
from einthoven.evaluation import bootstrap, resampling
from einthoven.evaluation.bootstrap import auroc_intervals, bootstrap_interval
from einthoven.evaluation.metrics import macro_auroc
from einthoven.evaluation.resampling import mean_of_valid, number_groups, resample_counts, resample_statistic
from einthoven.evaluation.weighted_auroc import WeightedAUROC


def case(seed: int, n: int, num_classes: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.random((n, num_classes)) < rng.uniform(0.02, 0.95, num_classes)
    y[0], y[1] = True, False
    p = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + y)))
    return y.astype(np.float32), np.round(p * levels) / levels if levels else p


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 40),
    num_classes=st.integers(1, 5),
    levels=st.sampled_from([None, 1, 3, 20]),
    patients=st.sampled_from([None, 2, 9]),
)
@settings(max_examples=60, deadline=None)
def test_each_resample_equals_scikit_learn_on_repeated_records(
    seed: int, n: int, num_classes: int, levels: int | None, patients: int | None
) -> None:
    y, p = case(seed, n, num_classes, levels)
    members = np.arange(n) if patients is None else np.arange(n) % patients
    resamples = 70  # more than one batch
    groups = number_groups(None if patients is None else members, n)
    aurocs = resample_statistic(WeightedAUROC(y == 1, p), groups, resamples, seed=7)
    macro = mean_of_valid(aurocs)
    valid = ~np.isnan(aurocs)
    counts = resample_counts(members, resamples, np.random.default_rng(7)).astype(int)
    for resample in [0, 1, 63, 64, 69]:
        rows = np.repeat(np.arange(n), counts[resample])
        present = [0 < y[rows, k].sum() < len(rows) for k in range(num_classes)]
        assert valid[resample].tolist() == present
        if any(present):
            expected = np.mean([roc_auc_score(y[rows, k], p[rows, k]) for k in np.flatnonzero(present)])
            assert macro[resample] == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(macro[resample])


def test_counts_are_resamples_with_replacement() -> None:
    rng = np.random.default_rng(0)
    counts = resample_counts(np.arange(50), 4000, rng)
    assert counts.shape == (4000, 50)
    assert (counts.sum(axis=1) == 50).all()
    # Each count is binomial(50, 1/50): mean 1, variance .98.
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=5 * np.sqrt(0.98 / 4000))
    np.testing.assert_allclose(counts.var(), 0.98, atol=0.02)
    # Drawing in pieces gives the same resamples.
    rng = np.random.default_rng(0)
    pieces = np.concatenate([resample_counts(np.arange(50), size, rng) for size in (1, 999, 3000)])
    np.testing.assert_array_equal(pieces, counts)


def test_patients_are_drawn_with_all_their_records() -> None:
    members = np.array([0, 0, 1, 2, 2, 2])
    counts = resample_counts(members, 200, np.random.default_rng(1))
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 3:5] == counts[:, 5:]).all()
    assert (counts[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_groups_may_be_any_names_and_widen_the_interval() -> None:
    y, p = case(2, 150, 3)
    repeated_y, repeated_p = np.repeat(y, 4, axis=0), np.repeat(p, 4, axis=0)
    names = np.repeat([f"patient {i:03d}" for i in range(150)], 4)
    by_patient = bootstrap_interval(repeated_y, repeated_p, groups=names)
    by_record = bootstrap_interval(repeated_y, repeated_p)
    # Four copies of a record are no new evidence: by patient, the interval is that of the originals.
    original = bootstrap_interval(y, p)
    assert (by_patient.low, by_patient.high) == pytest.approx((original.low, original.high), abs=1e-12)
    assert by_record.high - by_record.low < 0.7 * (by_patient.high - by_patient.low)


def test_interval_is_the_quantiles_and_holds_the_estimate() -> None:
    y, p = case(3, 400, 5)
    macro = mean_of_valid(resample_statistic(WeightedAUROC(y == 1, p), np.arange(400), 500, seed=11))
    interval = bootstrap_interval(y, p, resamples=500, seed=11, level=0.9)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(macro, [0.05, 0.95])))
    assert (interval.level, interval.resamples) == (0.9, 500)
    assert interval.low < macro_auroc(y, p) < interval.high
    assert interval == bootstrap_interval(y, p, resamples=500, seed=11, level=0.9)
    assert interval != bootstrap_interval(y, p, resamples=500, seed=12, level=0.9)


def test_interval_covers_the_true_auroc_about_as_often_as_it_says() -> None:
    # Two unit normals a distance d apart have AUROC Phi(d / sqrt 2) = .7602 at d = 1.
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        y = (np.arange(120) % 2)[:, None]
        interval = bootstrap_interval(y, rng.normal(size=(120, 1)) + y, resamples=200, seed=trial, level=0.9)
        covered += interval.low < 0.76025 < interval.high
    assert 0.80 < covered / 200 < 0.97  # four standard errors below, and not everything


def test_absent_classes_are_excluded_and_counted() -> None:
    y = np.zeros((100, 3))
    y[:50, 0] = 1
    y[0, 1] = 1  # in a resample with probability 1 - .99^100 = .634
    p = np.random.default_rng(0).random((100, 3))
    interval = bootstrap_interval(y, p, resamples=2000)
    assert interval.resamples == 2000
    absent = 0.99**100
    # The third class has no positive record in the data: it is no class of this evaluation.
    assert interval.complete / 2000 == pytest.approx(1 - absent, abs=0.05)
    assert interval.classes_missing_share == pytest.approx((1 - interval.complete / 2000) / 2)


def test_resamples_without_any_class_are_dropped_and_not_counted() -> None:
    interval = bootstrap_interval([[1], [0]], [[0.7], [0.2]], resamples=400)
    assert 130 < interval.resamples < 270  # two records are both drawn half of the time
    assert (interval.low, interval.high, interval.complete) == (1.0, 1.0, interval.resamples)


def test_models_on_the_same_records_are_paired() -> None:
    y, p = case(8, 300, 4)
    interval = bootstrap_interval(y, p, resamples=50, seed=3)
    monotone = bootstrap_interval(y, 2 * p - 5, resamples=50, seed=3)
    assert (interval.complete, interval.resamples) == (monotone.complete, monotone.resamples)
    assert (interval.low, interval.high) == pytest.approx((monotone.low, monotone.high), abs=1e-12)


def test_nonsense_is_refused_with_a_sentence() -> None:
    y, p = case(1, 20, 2)
    with pytest.raises(UserError, match="between 0 and 1, found 95"):
        bootstrap_interval(y, p, level=95)
    with pytest.raises(UserError, match="found 0"):
        bootstrap_interval(y, p, resamples=0)
    with pytest.raises(UserError, match=r"shape \(3,\) for 20 records"):
        bootstrap_interval(y, p, groups=[1, 2, 3])
    with pytest.raises(UserError, match="found none"):
        bootstrap_interval(np.zeros((5, 2)), np.zeros((5, 2)))


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_small_parts_give_the_same_intervals_and_memory_stays_bounded(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    y = rng.random((150, 7)) < 0.4
    p = y + rng.normal(size=y.shape)
    whole = auroc_intervals(y, p, resamples=50, method=method)
    monkeypatch.setattr(resampling, "_MOST_COUNTS", 1000)
    monkeypatch.setattr(bootstrap, "_MOST_ENTRIES", 300)
    largest = [0, 0]
    compute = WeightedAUROC.__call__

    def spy(self: WeightedAUROC, counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = compute(self, counts)
        largest[:] = max(largest[0], counts.size), max(largest[1], values.shape[1])
        return values

    monkeypatch.setattr(WeightedAUROC, "__call__", spy)
    parts = auroc_intervals(y, p, resamples=50, method=method)
    for one, other in zip([whole[0], *whole[1]], [parts[0], *parts[1]], strict=True):
        assert one is not None and other is not None
        assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=1e-12)
    assert largest == [900, 2]
