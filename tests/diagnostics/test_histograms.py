from __future__ import annotations

import numpy as np
import torch
from torch import nn

from einthoven.diagnostics import histograms
from einthoven.diagnostics.histograms import magnitude_edges, magnitude_histogram, stage_outputs


def test_every_finite_value_is_counted_in_the_bin_of_its_magnitude() -> None:
    counts = magnitude_histogram(
        [torch.tensor([[-0.5, 0.5], [0.0, 1e-30]]), torch.tensor([2e5, float("nan"), float("inf")])]
    )
    edges = magnitude_edges()
    assert counts.sum() == 5 and len(edges) == len(counts) + 1
    k = np.searchsorted(edges, 0.5) - 1
    # Zeros and what is smaller than the axis are in the first bin, and what is larger is in the last one.
    assert (counts[0], counts[k], counts[-1]) == (2, 2, 1)
    assert magnitude_histogram([]).sum() == 0


def test_of_many_values_a_sample_is_counted() -> None:
    values = torch.linspace(0.1, 1.0, 3 * histograms.VALUES)
    counts = magnitude_histogram([values[: len(values) // 2], values[len(values) // 2 :]])
    assert 0.9 * histograms.VALUES <= counts.sum() <= histograms.VALUES + 2
    assert np.flatnonzero(counts).tolist() == np.flatnonzero(magnitude_histogram([values[::100]])).tolist()


def test_the_outputs_of_the_stages_are_collected_inside_the_block() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 4))
    x = torch.ones(1, 2)
    with stage_outputs(network) as outputs:
        network(x)
    network(x)
    # The output of a recurrent layer is no single tensor.
    assert [tuple(output.shape) for output in outputs] == [(1, 3)]
