from __future__ import annotations

import numpy as np
import pytest
import torch

from einthoven.functional.norms import global_norm, rms


def test_equal_those_of_the_concatenated_vector() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator) for shape in [(3, 4), (5,), (2, 3, 4), ()]]
    vector = np.concatenate([t.double().numpy().ravel() for t in tensors])
    assert global_norm(iter(tensors)).item() == pytest.approx(np.linalg.norm(vector))
    assert rms(iter(tensors)).item() == pytest.approx(np.sqrt(np.mean(vector**2)))


def test_no_tensors() -> None:
    assert global_norm([]).item() == 0.0
    with pytest.raises(ValueError, match="no elements"):
        rms([])


def test_does_not_overflow_where_the_sum_of_squares_does() -> None:
    assert global_norm([torch.full((4,), 1e18)]).item() == pytest.approx(2e18)
