from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st

from einthoven.functional.outputs import sigmoid, softmax

LOGITS = st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=6)
TEMPERATURES = st.floats(0.05, 20)


@given(LOGITS, TEMPERATURES)
def test_softmax_sums_to_one_and_is_that_of_scipy(logits: list[float], temperature: float) -> None:
    p = softmax(torch.tensor(logits, dtype=torch.float64), temperature)
    assert p.sum().item() == pytest.approx(1.0) and (p >= 0).all()
    np.testing.assert_allclose(p.numpy(), scipy.special.softmax(np.array(logits) / temperature), rtol=1e-9, atol=1e-300)


@given(LOGITS, st.floats(-1e4, 1e4), TEMPERATURES)
def test_softmax_does_not_move_with_a_shift(logits: list[float], shift: float, temperature: float) -> None:
    z = torch.tensor(logits, dtype=torch.float64)
    torch.testing.assert_close(softmax(z + shift, temperature), softmax(z, temperature), rtol=1e-6, atol=1e-9)


@given(st.floats(-1e4, 1e4), TEMPERATURES)
def test_sigmoid_is_a_softmax_of_two(logit: float, temperature: float) -> None:
    z = torch.tensor([logit, 0.0], dtype=torch.float64)
    torch.testing.assert_close(sigmoid(z[0], temperature), softmax(z, temperature)[0])
    assert sigmoid(z[0], temperature) + sigmoid(-z[0], temperature) == pytest.approx(1.0)


def test_both_are_stable_at_extreme_logits() -> None:
    z = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    p = torch.cat([softmax(z), sigmoid(z)])
    assert p.tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 0.5]]
    p.sum().backward()
    assert z.grad is not None and z.grad.isfinite().all()


def test_the_temperature_goes_from_the_largest_to_all_alike() -> None:
    z = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    np.testing.assert_allclose(softmax(z, 1e-3), [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(softmax(z, 1e6), [1 / 3] * 3, rtol=1e-5)
    assert torch.equal(softmax(z, 2.0).argsort(), z.argsort())
