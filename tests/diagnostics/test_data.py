from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import rel_entr
from scipy.stats import chi2

from einthoven.diagnostics.data import (
    Signatures,
    Signer,
    SplitData,
    _is_duplicate,
    compare_signals,
    compare_splits,
    is_repeated,
    label_drift,
)

Int16 = NDArray[np.int16]


def beats(n: int, seed: int, samples: int = 500) -> Int16:
    """Signals that resemble ECGs in that all of them are smooth, periodic and of some hundred microvolts."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 100
    rate, phase = rng.uniform(0.8, 2.0, (n, 1, 1)), rng.uniform(0, 6.3, (n, 1, 1))
    weight = rng.normal(0, 100, (n, 12, 5, 1))
    harmonics = np.sin(np.arange(1, 6)[:, None] * (2 * np.pi * rate * time + phase)[:, :, None])
    signals: Int16 = (weight * harmonics).sum(axis=2).round().astype(np.int16)
    return signals


def chunks(signals: Int16, size: int = 7) -> Iterator[Int16]:
    return (signals[first : first + size] for first in range(0, len(signals), size))


def of(signals: Int16, size: int = 7) -> Signatures:
    signer = Signer()
    assert np.array_equal(np.concatenate(list(signer.sign(chunks(signals, size)))), signals)
    return signer.signatures()


@given(gain=st.floats(0.3, 3.0), offset=st.integers(-2000, 2000), seed=st.integers(0, 100))
def test_a_signal_is_found_again_at_another_gain_and_offset(gain: float, offset: int, seed: int) -> None:
    known = beats(20, seed)
    again = (gain * known[[3, 11]] + offset * np.arange(12)[:, None] / 12).round().astype(np.int16)
    found = _is_duplicate(of(np.concatenate([again, beats(5, seed + 1000)])), of(known))
    assert found.tolist() == [True, True, False, False, False, False, False]


def test_a_signal_with_a_little_noise_is_another_signal() -> None:
    known = beats(20, 0)
    noisy = known + np.random.default_rng(1).normal(0, 0.1 * known.std(), known.shape).round().astype(np.int16)
    assert not _is_duplicate(of(noisy), of(known)).any()


def test_signatures_do_not_depend_on_how_the_signals_are_cut_into_chunks() -> None:
    signals = beats(23, 5)
    one, many = of(signals, len(signals)), of(signals, 4)
    np.testing.assert_allclose(one.points, many.points, atol=1e-6)


def test_distances_of_signatures_are_about_those_of_the_signals() -> None:
    x = beats(200, 2)[:, :, ::10].astype(np.float64)
    x = (x - x.mean(axis=2, keepdims=True)).reshape(200, -1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    points = of(beats(200, 2)).points
    true = np.linalg.norm(x[:100] - x[100:], axis=1)
    ratio = np.linalg.norm(points[:100] - points[100:], axis=1) / true
    assert abs(ratio.mean() - 1) < 0.1 and ratio.min() > 0.3  # chi with 16 degrees of freedom over its root


def test_constant_signals_are_flat_and_no_twins() -> None:
    signals = beats(6, 3)
    signals[1], signals[4] = 0, np.arange(12)[:, None] * 100
    seen = of(signals)
    assert seen.flat.tolist() == [False, True, False, False, True, False]
    assert _is_duplicate(seen, seen).tolist() == (~seen.flat).tolist()
    assert not is_repeated(seen).any()
    assert not _is_duplicate(seen, of(signals[[1]])).any()


def test_repeated_signals_are_counted_each() -> None:
    signals = beats(8, 4)
    signals[5], signals[6] = signals[2], 2 * signals[0]
    assert np.flatnonzero(is_repeated(of(signals))).tolist() == [0, 2, 5, 6]
    assert is_repeated(of(np.repeat(signals[:1], 4, axis=0))).all()
    assert not is_repeated(of(signals[:1])).any()


@given(st.integers(1, 50), st.integers(1, 80), st.integers(0, 1000))
def test_drift_is_the_divergence_of_the_shares(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.random((n, 4)) < 0.3).astype(float), (rng.random((m, 4)) < [0.3, 0.9, 0.0, 1.0]).astype(float)
    kl, psi = label_drift(a, b)
    q, p = ((y.sum(axis=0) + 0.5) / (len(y) + 1) for y in (a, b))
    there, back = rel_entr(p, q) + rel_entr(1 - p, 1 - q), rel_entr(q, p) + rel_entr(1 - q, 1 - p)
    np.testing.assert_allclose(kl, there, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(psi, there + back, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(label_drift(a, a), 0.0, atol=1e-12)


def test_the_drift_of_splits_drawn_alike_is_chance() -> None:
    rng, n, m = np.random.default_rng(0), 1600, 200
    psi = np.concatenate([label_drift(*((rng.random((k, 50)) < 0.3) * 1.0 for k in (n, m)))[1] for _ in range(20)])
    scaled = psi / (1 / n + 1 / m)
    assert abs(scaled.mean() - 1) < 0.15
    assert (scaled > chi2(1).ppf(0.99)).mean() < 0.02


def test_a_corpus_is_examined_split_by_split() -> None:
    train, val = beats(10, 6), beats(4, 7)
    val[0], val[3], train[9], train[8] = train[2] // 2, 0, train[1], 5
    y = np.array([[1.0, 0.0]] * 10), np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    splits = {
        "train": SplitData(np.array([1, 1, 2, 3, 4, 5, 6, 7, 8, 9]), y[0]),
        "val": SplitData(np.array([1, 9, 10, 11]), y[1]),
    }
    counts = compare_signals({"train": of(train), "val": of(val)})
    table, facts = compare_splits(counts, splits, ("NORM", "MI"))
    rows = {(m, s, c): v for m, s, c, v in zip(*table.values(), strict=True)}
    assert facts["records"] == {"train": 10, "val": 4}
    assert facts["flat"] == {"train": 1, "val": 1} and facts["repeated"] == {"train": 2, "val": 0}
    assert facts["duplicates"] == {"train-val": 1} and facts["patients"] == {"train-val": 2}
    assert facts["positives"] == {"train": {"NORM": 10, "MI": 0}, "val": {"NORM": 2, "MI": 3}}
    assert rows["duplicates", "train-val", ""] == 1.0 and rows["share", "val", "MI"] == 0.75
    kl, psi = label_drift(*y)
    assert rows["kl", "val", ""] == pytest.approx(kl.mean()) and rows["psi", "val", ""] == pytest.approx(psi.mean())
    assert facts["psi"] == {"val": {"NORM": pytest.approx(psi[0]), "MI": pytest.approx(psi[1])}}


def test_the_size_of_signals_is_their_median_deviation_in_mv_and_constant_ones_have_none() -> None:
    signals = np.zeros((3, 12, 500), np.int16)
    signals[0, :, ::20] = 1000  # of each tenth sample, every second one is 1 mV: a deviation of 0.5 mV
    signals[1] = 2 * signals[0] + 300 * np.arange(12)[:, None]
    sizes = compare_signals({"train": of(signals), "val": of(np.zeros((2, 12, 500), np.int16))})["size"]
    assert sizes == {"train": pytest.approx(0.75), "val": 0.0}


def test_without_labels_the_signals_are_examined_alone() -> None:
    counts = compare_signals({"train": of(beats(5, 8))})
    table, facts = compare_splits(counts, {"train": SplitData(np.arange(5), None)}, ())
    assert table["measure"] == ["records", "flat", "repeated", "size"] and table["split"] == ["train"] * 4
    assert table["value"][:3] == [5.0, 0.0, 0.0] and table["class"] == [""] * 4
    assert set(facts) == {"records", "flat", "repeated", "size", "duplicates", "patients"}
