from __future__ import annotations

import numpy as np
import pytest

from einthoven.functional import moments as moments_module
from einthoven.functional.moments import lead_moments, window_moments


@pytest.mark.parametrize("sizes", [[600], [1, 7, 300, 2], [0, 5]])
def test_moments_equal_brute_force(sizes: list[int]) -> None:
    rng = np.random.default_rng(1)
    chunks = [rng.integers(-3000, 3000, size=(n, 12, 20)).astype(np.int16) for n in sizes]
    chunks = [chunk + (np.arange(12, dtype=np.int16) * 700)[:, None] for chunk in chunks]
    moments = lead_moments(iter(chunks), scale=1e-3)
    everything = np.concatenate(chunks).astype(np.float64) / 1000
    flat = everything.transpose(1, 0, 2).reshape(12, -1)
    np.testing.assert_allclose(moments.mean, flat.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(flat, bias=True), rtol=1e-10, atol=1e-12)
    assert moments.scalar_mean == pytest.approx(everything.mean(), rel=1e-12)
    assert moments.scalar_std == pytest.approx(everything.std(), rel=1e-12)


def test_moments_survive_a_large_offset() -> None:
    noise = np.random.default_rng(0).normal(size=(20, 2, 500))
    moments = lead_moments([(noise + 1e6)[:10], (noise + 1e6)[10:]])
    expected = np.cov(noise.transpose(1, 0, 2).reshape(2, -1), bias=True)
    np.testing.assert_allclose(moments.covariance, expected, atol=1e-8)


def test_moments_of_int16_survive_a_large_offset_and_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments_module, "_SAMPLES_IN_CACHE", 300)
    noise = np.random.default_rng(0).integers(-1, 2, (20, 2, 100)).astype(np.int16)
    moments = lead_moments([noise + np.int16(32000), noise[:7] + np.int16(32000)])
    flat = np.concatenate([noise, noise[:7]]).transpose(1, 0, 2).reshape(2, -1)
    np.testing.assert_allclose(moments.covariance, np.cov(flat, bias=True), atol=1e-6)
    np.testing.assert_allclose(moments.mean, flat.mean(axis=1) + 32000, rtol=1e-14)


def test_moments_leave_their_input_alone() -> None:
    chunk = np.random.default_rng(0).normal(size=(1, 12, 50)) + 5
    before = chunk.copy()
    lead_moments([chunk])
    np.testing.assert_array_equal(chunk, before)


def test_moments_refuse_nothing_and_nan() -> None:
    with pytest.raises(ValueError, match="no samples"):
        lead_moments([])
    with pytest.raises(ValueError, match="not finite"):
        lead_moments([np.full((1, 12, 5), np.nan)])


@pytest.mark.parametrize(("width", "stride"), [(1, 1), (8, 1), (8, 3), (20, 20)])
def test_window_moments_equal_brute_force(width: int, stride: int) -> None:
    rng = np.random.default_rng(2)
    chunks = [rng.integers(-900, 900, size=(n, 3, t)).cumsum(axis=2).astype(np.int64) for n, t in ((40, 30), (2, 20))]
    moments = window_moments(iter(chunks), width, stride, scale=1e-3)
    flat = np.array(
        [
            row[start : start + width] / 1000
            for chunk in chunks
            for row in chunk.reshape(-1, chunk.shape[2])
            for start in range(0, len(row) - width + 1, stride)
        ]
    )
    np.testing.assert_allclose(moments.mean, flat.mean(axis=0), rtol=1e-10, atol=1e-12)
    expected = np.cov(flat, rowvar=False, bias=True).reshape(width, width)
    np.testing.assert_allclose(moments.covariance, expected, rtol=1e-9, atol=1e-12)


def test_windows_longer_than_the_records_are_refused() -> None:
    with pytest.raises(ValueError, match="windows of 30 samples"):
        window_moments([np.zeros((2, 12, 20))], 30)
