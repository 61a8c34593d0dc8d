from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.report.attention import _received, attention_figure, attention_maps_figure
from einthoven.report.trials import Trial


def maps(heads: int = 2, tokens: int = 10, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).random((heads, tokens, tokens))
    return weights / weights.sum(axis=-1, keepdims=True)


def test_what_a_head_reads_is_told_token_by_token() -> None:
    weights = np.zeros((1, 4, 4))
    weights[:, :, 2] = 1.0  # all read the third
    assert _received(weights).tolist() == [[0, 0, 4, 0]]


def test_attention_stands_where_its_moment_is() -> None:
    weights = np.zeros((1, 1, 10, 10))
    weights[..., 3] = 1.0  # the fourth second of ten
    figure = attention_figure(np.zeros((12, 1000)), 100, {"block1": weights}, title="a record", show=("II", "V1"))
    behind, head = figure.axes[0].get_images()[:2]
    assert behind.get_array().argmax() == head.get_array().argmax() == 3
    left, right, *_ = head.get_extent()
    (trace,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "II"]
    assert trace.get_xdata()[0] == pytest.approx(left)
    assert trace.get_xdata()[-1] == pytest.approx(right, abs=0.5)  # 250 mm are 10 s
    assert "a record" in [text.get_text() for text in figure.axes[0].texts]


def test_no_trace_crosses_the_name_of_a_lead() -> None:
    t = np.arange(1000) / 100
    beat = np.exp(-(((t % 0.8) - 0.14) ** 2) / (2 * 0.02**2))
    leads = ("II", "V1", "V5")
    for size in (0.3, 1.1, 1.5, -1.1):
        figure = attention_figure(np.tile(size * beat, (12, 1)), 100, {"block1": maps()[None]}, title="", show=leads)
        figure.canvas.draw()
        axes = figure.axes[0]
        traces = [line.get_xydata() for line in axes.get_lines() if line.get_label() in leads]
        names = [text.get_window_extent() for text in axes.texts if text.get_text() in leads]
        assert len(traces) == len(names) == 3
        for name in names:
            (left, bottom), (right, top) = axes.transData.inverted().transform(name)
            for trace in traces:
                beside = trace[(trace[:, 0] > left) & (trace[:, 0] < right), 1]
                assert np.all(beside > top) or np.all(beside < bottom), size


def test_maps_that_are_none_and_leads_that_are_missing_are_refused() -> None:
    signal = np.zeros((12, 1000))
    for wrong in ({}, {"block1": maps()}, {"block1": np.zeros((1, 2, 4, 5))}, {"block1": np.stack([maps(), maps()])}):
        with pytest.raises(UserError, match=r"maps of shape \(windows, heads, N, N\)"):
            attention_figure(signal, 100, wrong, title="")
    with pytest.raises(UserError, match="same number of tokens"):
        attention_figure(signal, 100, {"block1": maps()[None], "block2": maps(tokens=5)[None]}, title="")
    with pytest.raises(UserError, match="cannot show V9"):
        attention_figure(signal, 100, {"block1": maps()[None]}, title="", show=("V9",))


def test_of_windows_that_overlap_the_mean_is_drawn() -> None:
    weights = np.zeros((2, 1, 10, 10))
    weights[0, ..., 7] = weights[1, ..., 1] = 1.0  # tokens 7 and 6 of 15
    figure = attention_figure(np.zeros((12, 1000)), 100, {"block1": weights}, title="", starts=(0, 5), show=("II",))
    head = figure.axes[0].get_images()[1].get_array()
    assert head.tolist() == [[0] * 6 + [5, 5] + [0] * 7]


def test_a_sweep_has_a_column_a_network_and_a_row_a_record() -> None:
    found = {
        "signal/II": np.zeros((2, 500), np.float32),
        "map/block1": np.stack([maps(), maps()]),
        "fs": np.array(100.0),
    }
    found |= {"label/MI": np.array([1.0, 0.0]), "label/NORM": np.array([0.0, 1.0])}
    found |= {"probability/MI": np.array([0.9, 0.2]), "probability/NORM": np.array([0.1, 0.75])}
    runs = [Trial({"model": name}, arrays=found) for name in ("conv_attention", "vit1d")]
    shown = [text.get_text() for text in attention_maps_figure(runs, title="?", show=["II"]).axes[0].texts]
    assert {"conv_attention: MI, predicted 0.90", "vit1d: NORM, predicted 0.75"} <= set(shown)
