"""Divergences against torch.distributions, numerical integration, and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from einthoven.functional.information import bernoulli_kl, categorical_kl, gaussian_kl

NUMBERS = st.floats(-3, 3)


def tensors(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_gaussian_kl_is_that_of_torch(
    mean: float, log_variance: float, other: float, other_log_variance: float
) -> None:
    m, v, n, w = tensors(mean, log_variance, other, other_log_variance)
    expected = kl_divergence(Normal(m, (v / 2).exp()), Normal(n, (w / 2).exp()))
    found = gaussian_kl(m, v, n, w)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert found >= -1e-12 and gaussian_kl(m, v, m, v) == 0


def test_gaussian_kl_is_its_integral_and_not_symmetric() -> None:
    p, q = scipy.stats.norm(0.3, 0.7), scipy.stats.norm(-0.5, 1.4)
    forward, _ = scipy.integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -12, 12)
    m, v, n, w = tensors(0.3, 2 * math.log(0.7), -0.5, 2 * math.log(1.4))
    assert gaussian_kl(m, v, n, w).item() == pytest.approx(forward)
    assert abs(gaussian_kl(n, w, m, v).item() - forward) > 0.1


def test_of_a_standard_normal_it_is_that_of_a_variational_autoencoder() -> None:
    m, v = torch.randn(2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = -0.5 * (1 + v - m.square() - v.exp()).sum()  # Kingma & Welling 2014, appendix B
    torch.testing.assert_close(gaussian_kl(m, v).sum(), expected)
    assert torch.autograd.gradcheck(gaussian_kl, (m.requires_grad_(), v.requires_grad_()))


def test_categorical_and_bernoulli_kl_are_those_of_scipy_and_not_symmetric() -> None:
    p, q = tensors([0.7, 0.2, 0.1], [0.1, 0.3, 0.6])  # type: ignore[arg-type]
    forward, backward = categorical_kl(p, q).item(), categorical_kl(q, p).item()
    assert forward == pytest.approx(scipy.stats.entropy(p.numpy(), q.numpy()))
    assert abs(forward - backward) > 0.01
    single = [scipy.stats.entropy([a, 1 - a], [b, 1 - b]) for a, b in zip(p.numpy(), q.numpy(), strict=True)]
    np.testing.assert_allclose(bernoulli_kl(p, q).numpy(), single)
    assert not torch.allclose(bernoulli_kl(p, q), bernoulli_kl(q, p))
