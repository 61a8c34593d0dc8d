"""Cutting records into windows, and aggregating the predictions of the windows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from einthoven.errors import UserError
from einthoven.functional.windows import aggregate_windows, apply_to_windows, cut_windows


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 80))
def test_windows_cover_the_record_and_end_with_it(samples: int, window: int, stride: int) -> None:
    x = torch.arange(2 * 3 * samples).reshape(2, 3, samples)
    if window > samples:
        with pytest.raises(UserError, match="longer than the records"):
            cut_windows(x, window, stride)
        return
    cut = cut_windows(x, window, stride)
    starts = cut[0, :, 0, 0].tolist()
    assert starts[0] == 0 and starts[-1] == samples - window and starts == sorted(set(starts))
    assert all(b - a <= stride for a, b in pairwise(starts))
    for k, start in enumerate(starts):
        assert torch.equal(cut[:, k], x[..., start : start + window])
    if stride <= window:
        assert set(cut[0, :, 0].flatten().tolist()) == set(range(samples))


def test_the_windows_of_the_benchmark_are_seven() -> None:
    assert cut_windows(torch.zeros(1, 12, 1000), 250, 125).shape == (1, 7, 12, 250)


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_a_model_reads_each_window_and_tensors_and_arrays_are_aggregated_alike(rule: str) -> None:
    x = torch.arange(2 * 3 * 10, dtype=torch.float64).reshape(2, 3, 10)
    means = apply_to_windows(lambda windows: windows.mean(dim=2), x, 4, 3)
    windows = [x[:, :, start : start + 4].numpy() for start in (0, 3, 6)]
    expected = np.stack([window.mean(axis=2) for window in windows], axis=1)
    np.testing.assert_array_equal(means.numpy(), expected)
    reduced = expected.max(axis=1) if rule == "max" else expected.mean(axis=1)
    np.testing.assert_array_equal(aggregate_windows(means, rule).numpy(), reduced)
    np.testing.assert_array_equal(aggregate_windows(expected, rule), reduced)
    np.testing.assert_array_equal(aggregate_windows(expected[0], rule, axis=0), reduced[0])
