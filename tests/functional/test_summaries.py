"""Summaries of rows against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from einthoven.functional.summaries import summarize

ROW = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf]), min_size=5, max_size=5)


@given(st.lists(ROW, min_size=1, max_size=4))
def test_each_row_is_summarized_as_by_scipy(rows: list[list[float]]) -> None:
    values = np.array(rows)
    summary = summarize(values)
    for k, row in enumerate(values):
        finite = row[np.isfinite(row)]
        assert summary.count[k] == len(finite)
        if not len(finite):
            assert np.isnan(summary.median[k]) and np.isnan(summary.spread[k])
            continue
        assert summary.median[k] == pytest.approx(np.percentile(finite, 50), rel=1e-12, abs=1e-9)
        assert summary.spread[k] == pytest.approx(stats.iqr(finite, scale="normal"), rel=1e-3, abs=1e-9)


def test_a_summary_does_not_depend_on_what_fills_up_the_row() -> None:
    values = np.random.default_rng(0).normal(size=(3, 7))
    filled = np.pad(values, ((0, 0), (0, 5)), constant_values=np.nan)
    for name, expected in vars(summarize(values)).items():
        np.testing.assert_array_equal(getattr(summarize(filled), name), expected)
    assert summarize(np.empty((2, 3, 0))).count.shape == (2, 3)
