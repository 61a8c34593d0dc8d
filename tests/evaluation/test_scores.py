"""Decisions and probability scores against scikit-learn and literal readings of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from einthoven.errors import UserError
from einthoven.evaluation import decisions, scores


def case(seed: int, n: int, levels: int | None = None, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random((n, classes)) < rng.uniform(0.1, 0.8, classes)).astype(int)
    p = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + y)))
    return y, np.round(p * levels) / levels if levels else p


cases = st.builds(case, seed=st.integers(0, 2**32 - 1), n=st.integers(2, 60), levels=st.sampled_from([None, 1, 2, 10]))


@given(cases, st.sampled_from([0.25, 0.5, 1.0]))
@settings(max_examples=25, deadline=None)
def test_rates_equal_scikit_learn(arrays: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    y, p = arrays
    stated = p >= threshold
    found = decisions.confusion(y, stated)
    for k in range(y.shape[1]):
        t, s = y[:, k], stated[:, k].astype(int)
        nan = {"zero_division": np.nan}
        expected = {
            "sensitivity": sk.recall_score(t, s, **nan),
            "specificity": sk.recall_score(t, s, pos_label=0, **nan),
            "ppv": sk.precision_score(t, s, **nan),
            "npv": sk.precision_score(t, s, pos_label=0, **nan),
            "f1": sk.f1_score(t, s, **nan),
        }
        for name, value in expected.items():
            assert getattr(found, name)[k] == pytest.approx(value, abs=1e-12, nan_ok=True), name
        if len(set(t) | set(s)) == 2:
            assert found.kappa[k] == pytest.approx(sk.cohen_kappa_score(t, s), abs=1e-12, nan_ok=True)


def test_weights_are_repetitions() -> None:
    y, p = case(1, 40)
    counts = np.random.default_rng(0).integers(0, 3, (5, 40))
    found = decisions.confusion(y, p >= 0.5, counts)
    assert found.tp.shape == (5, 3)
    for row, count in enumerate(counts):
        rows = np.repeat(np.arange(40), count)
        one = decisions.confusion(y[rows], p[rows] >= 0.5)
        for name in ("tp", "fp", "fn", "tn"):
            np.testing.assert_array_equal(getattr(found, name)[row], getattr(one, name))


@given(cases)
@settings(max_examples=40, deadline=None)
def test_proper_scores_equal_scikit_learn(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = arrays
    inside = p.clip(1e-3, 1 - 1e-3)
    for k in range(y.shape[1]):
        assert scores.brier_per_class(y, p)[k] == pytest.approx(np.mean((p[:, k] - y[:, k]) ** 2), abs=1e-14)
        expected = sk.log_loss(y[:, k], inside[:, k], labels=[0, 1])
        assert scores.log_loss_per_class(y, inside)[k] == pytest.approx(expected, abs=1e-12)
        if len(set(y[:, k])) == 2:
            assert scores.brier_per_class(y, p)[k] == pytest.approx(sk.brier_score_loss(y[:, k], p[:, k]), abs=1e-12)


@given(cases, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_bins_hold_every_record_once_and_no_tie_is_split(arrays: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    y, p = arrays
    order = np.random.default_rng(0).permutation(len(y))
    found, again = (scores.reliability(y[rows, 0], p[rows, 0], bins) for rows in (slice(None), order))
    np.testing.assert_allclose(found.stated, again.stated, atol=1e-12)
    np.testing.assert_allclose(found.observed, again.observed, atol=1e-12)
    assert found.count.sum() == len(y) and (found.count > 0).all() and len(found.count) <= bins
    assert np.average(found.observed, weights=found.count) == pytest.approx(y[:, 0].mean())
    assert np.average(found.stated, weights=found.count) == pytest.approx(p[:, 0].mean())
    assert (np.diff(found.stated) > 0).all()


def test_plain_calibration_error_equals_scikit_learns_quantile_bins() -> None:
    from sklearn.calibration import calibration_curve

    y, p = case(3, 600)
    observed, stated = calibration_curve(y[:, 0], p[:, 0], n_bins=10, strategy="quantile")
    plain = scores.calibration_error_per_class(y, p, 10, debias=False)
    assert plain[0] == pytest.approx(np.abs(observed - stated).mean(), abs=1e-12)  # 60 records in each bin


def test_debiasing_takes_off_what_noise_adds() -> None:
    # p is perfect: the error is 0, and the noise once more adds sqrt(2) - 1 of what it has added. p is .1 too high: .1.
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.1):
        truth = rng.uniform(0.05, 0.85, (400, 200))
        y = rng.random(truth.shape) < truth
        plain = scores.calibration_error_per_class(y, truth + shift, debias=False).mean()
        debiased = scores.calibration_error_per_class(y, truth + shift).mean()
        assert plain > debiased >= 0
        assert debiased < 0.65 * plain if shift == 0 else abs(debiased - shift) < 0.01


def test_a_class_that_nobody_has_has_no_sensitivity() -> None:
    found = decisions.confusion([[0], [0]], [[0], [1]])
    assert np.isnan(found.sensitivity[0]) and found.specificity[0] == 0.5
    assert found.ppv[0] == 0.0 and np.isnan(decisions.confusion([[0]], [[0]]).ppv[0])


def test_nonsense_is_refused_with_a_sentence() -> None:
    with pytest.raises(UserError, match="Decisions must be 0 or 1"):
        decisions.confusion([[1]], [[0.7]])
    with pytest.raises(UserError, match=r"shape \(3,\) for 1 records"):
        decisions.confusion([[1]], [[1]], [1, 1, 1])
    with pytest.raises(UserError, match=r"-2 \.\.\. 3"):
        scores.brier_per_class([[1, 0]], [[-2.0, 3.0]])
    with pytest.raises(UserError, match="found 0"):
        scores.reliability([1], [0.5], bins=0)
    with pytest.raises(UserError, match="at least one record"):
        scores.log_loss_per_class(np.zeros((0, 2)), np.zeros((0, 2)))
