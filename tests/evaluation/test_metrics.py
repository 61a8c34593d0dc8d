"""Metrics against scikit-learn and a literal reading of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from einthoven.errors import UserError
from einthoven.evaluation import metrics


def case(seed: int, n: int, num_classes: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels of mixed prevalence and scores that know a little; ``levels`` rounds them into heavy ties."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, num_classes)) < rng.uniform(0.02, 0.9, num_classes)).astype(np.float32)
    p = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + y)))
    return y, np.round(p * levels) / levels if levels else p


cases = st.builds(
    case,
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    num_classes=st.integers(1, 6),
    levels=st.sampled_from([None, 1, 2, 5, 100]),
)


def both_labels(y: np.ndarray) -> np.ndarray:
    return (y.min(axis=0) == 0) & (y.max(axis=0) == 1)


@given(cases)
@settings(max_examples=80, deadline=None)
def test_per_class_metrics_equal_scikit_learn(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = arrays
    auroc, precision = metrics.auroc_per_class(y, p), metrics.average_precision_per_class(y, p)
    assert auroc.shape == precision.shape == (y.shape[1],)
    for k, valid in enumerate(both_labels(y)):
        if valid:
            assert auroc[k] == pytest.approx(sk.roc_auc_score(y[:, k], p[:, k]), abs=1e-12)
            assert precision[k] == pytest.approx(sk.average_precision_score(y[:, k], p[:, k]), abs=1e-12)
        else:
            assert np.isnan(auroc[k]) and np.isnan(precision[k])


@pytest.mark.parametrize("levels", [None, 10])
def test_macro_averages_equal_scikit_learn_at_benchmark_size(levels: int | None) -> None:
    y, p = case(3, 2163, 44, levels)
    assert metrics.macro_auroc(y, p) == pytest.approx(sk.roc_auc_score(y, p), abs=1e-12)
    assert metrics.macro_auprc(y, p) == pytest.approx(sk.average_precision_score(y, p), abs=1e-12)


def test_macro_leaves_out_classes_without_both_labels() -> None:
    y, p = case(4, 50, 3)
    padded_y = np.column_stack([y, np.zeros(50), np.ones(50)])
    padded_p = np.column_stack([p, p[:, :2]])
    assert metrics.macro_auroc(padded_y, padded_p) == metrics.macro_auroc(y, p)
    assert metrics.macro_auprc(padded_y, padded_p) == metrics.macro_auprc(y, p)


def test_auroc_by_hand() -> None:
    # Pairs (positive, negative): (.8, .5) won, (.8, .2) won, (.5, .5) tied, (.5, .2) won -> 3.5 of 4.
    y = np.array([[1], [1], [0], [0]])
    p = np.array([[0.8], [0.5], [0.5], [0.2]])
    assert metrics.auroc_per_class(y, p) == pytest.approx([3.5 / 4])
    assert metrics.macro_auroc(y, np.zeros((4, 1))) == 0.5
    assert metrics.macro_auroc(1 - y, -p) == pytest.approx(3.5 / 4)


@given(cases)
@settings(max_examples=40, deadline=None)
def test_auroc_sees_order_alone_and_flips_with_the_labels(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = arrays
    auroc = metrics.auroc_per_class(y, p)
    np.testing.assert_allclose(metrics.auroc_per_class(y, 3 * p - 7), auroc, atol=1e-12)
    np.testing.assert_allclose(metrics.auroc_per_class(1 - y, p), 1 - auroc, atol=1e-12)


def literal_fmax(y: np.ndarray, p: np.ndarray) -> float:
    best = 0.0
    for threshold in [float(f"{j / 100:.2f}") for j in range(101)]:
        precisions, recalls = [], []
        for labels, probabilities in zip(y, p, strict=True):
            predicted = {k for k, value in enumerate(probabilities) if value >= threshold}
            true = {k for k, value in enumerate(labels) if value == 1}
            if predicted:
                precisions.append(len(predicted & true) / len(predicted))
            if true:
                recalls.append(len(predicted & true) / len(true))
        if precisions and recalls:
            precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
            if precision + recall > 0:
                best = max(best, 2 * precision * recall / (precision + recall))
    return best


@given(cases)
@settings(max_examples=30, deadline=None)
def test_fmax_equals_a_literal_loop(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = arrays
    if y.any():
        assert metrics.fmax(y, p) == pytest.approx(literal_fmax(y, p), abs=1e-12)


def test_fmax_threshold_is_reached_by_the_decimal_as_written() -> None:
    # Each probability is one of the thresholds exactly, so `p >= t` is decided by the last bit.
    for j in range(101):
        value = j / 100
        below = np.nextafter(value, -1) if j else 0.0
        # At t = value the first class alone is predicted: precision = recall = 1. Any other t is worse.
        expected = 1.0 if j else 2 / 3
        assert metrics.fmax([[1, 0]], [[value, below]]) == pytest.approx(expected)


def test_fmax_of_perfect_and_useless_probabilities() -> None:
    y = np.eye(4)
    assert metrics.fmax(y, y) == 1.0
    assert metrics.fmax(y, np.full((4, 4), 0.5)) == pytest.approx(2 * 0.25 / 1.25)  # predicts everything
    assert metrics.fmax(y, y.astype(np.float32) * np.float32(1.0000001)) == 1.0  # a softmax, rounded up
    # A record without a label has no recall: it takes part in the precision only.
    assert metrics.fmax([[1], [0]], [[0.9], [0.1]]) == 1.0


@given(st.integers(0, 1000), st.sampled_from([None, 2, 5]))
@settings(max_examples=30, deadline=None)
def test_roc_curve_equals_scikit_learn_and_its_area_is_the_auroc(seed: int, levels: int | None) -> None:
    y, p = case(seed, 80, 1, levels)
    if not both_labels(y)[0]:
        return
    fpr, tpr = metrics.roc_curve(y[:, 0], p[:, 0])
    expected_fpr, expected_tpr, _ = sk.roc_curve(y[:, 0], p[:, 0], drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected_fpr, atol=1e-12)
    np.testing.assert_allclose(tpr, expected_tpr, atol=1e-12)
    assert sk.auc(fpr, tpr) == pytest.approx(metrics.macro_auroc(y, p), abs=1e-12)


def test_summary_names_and_values() -> None:
    y, p = case(5, 200, 3)
    y[:, 2] = 0
    result = metrics.summary(y, p, ["CD", "MI", "RARE"])
    assert set(result) == {"macro_auroc", "macro_auprc", "fmax", "auroc/CD", "auroc/MI"}
    assert result["auroc/MI"] == pytest.approx(sk.roc_auc_score(y[:, 1], p[:, 1]))
    assert result["macro_auroc"] == pytest.approx((result["auroc/CD"] + result["auroc/MI"]) / 2)
    assert all(type(value) is float for value in result.values())


@pytest.mark.parametrize(
    ("y", "p", "sentence"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), r"\(3, 2\) and \(3, 1\)"),
        (np.zeros(3), np.zeros(3), r"\(records, classes\)"),
        (np.full((3, 1), 0.5), np.zeros((3, 1)), "0 or 1"),
        (np.full((3, 1), np.nan), np.zeros((3, 1)), "0 or 1"),
        (np.eye(2), np.array([[0.1, np.nan], [0.2, 0.3]]), "1 NaN among 4"),
        (np.zeros((3, 2)), np.zeros((3, 2)), "both positive and negative"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "both positive and negative"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(y: np.ndarray, p: np.ndarray, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        metrics.macro_auroc(y, p)


def test_fmax_roc_and_summary_refuse_what_they_cannot_answer() -> None:
    with pytest.raises(UserError, match=r"-2 \.\.\. 3"):
        metrics.fmax([[1, 0]], [[-2.0, 3.0]])
    with pytest.raises(UserError, match="at least one record with a label"):
        metrics.fmax([[0, 0]], [[0.1, 0.2]])
    with pytest.raises(UserError, match="2 positive of 2"):
        metrics.roc_curve([1, 1], [0.1, 0.2])
    with pytest.raises(UserError, match="1 names for 2 columns"):
        metrics.summary(np.eye(2), np.eye(2), ["CD"])
