"""Measures of embeddings against loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from einthoven.diagnostics.representation import active_share, alignment, collapsed_share, uniformity


def test_alignment_is_the_mean_squared_distance_of_directions() -> None:
    a = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    b = torch.tensor([[5.0, 0.0], [0.0, -1.0], [1.0, -1.0]])
    # The angles are 0°, 180° and 90°.
    assert float(alignment(a, b)) == pytest.approx((0 + 4 + 2) / 3)


def test_uniformity_is_a_mean_over_pairs() -> None:
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    kernel = [math.exp(-2 * np.square(unit[i] - unit[j]).sum()) for i in range(7) for j in range(i)]
    assert float(uniformity(x)) == pytest.approx(math.log(np.mean(kernel)))
    assert float(uniformity(torch.ones(5, 3))) == pytest.approx(0, abs=1e-6)
    # In many dimensions, random directions are orthogonal: the squared distance of each pair is 2.
    many = torch.randn(200, 4000, generator=torch.Generator().manual_seed(1))
    assert float(uniformity(many)) == pytest.approx(-4, abs=0.02)


def test_dimensions_that_do_not_differ_have_collapsed() -> None:
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    assert float(collapsed_share(x)) == 0
    x[:, 1] = 2.0
    x[:, 2] *= 1e-4
    assert float(collapsed_share(x)) == 0.5
    # A common offset does not hide the collapse.
    assert float(collapsed_share(torch.full((5, 3), 7.0) + 1e-3 * torch.eye(5, 3))) == 1
    assert float(collapsed_share(torch.zeros(5, 3))) == 1


def test_active_latents_are_those_that_tell_something() -> None:
    assert float(active_share(torch.tensor([0.5, 0.009, 0.01, 0.0]))) == 0.5
