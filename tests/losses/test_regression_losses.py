"""The squared error against the Gaussian likelihood, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from einthoven.errors import UserError
from einthoven.losses.regression import mse


def outputs_and_targets(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mu, y = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return mu, y


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("shape", [(6, 1), (6, 2), (6, 3, 10)])
def test_it_is_the_gaussian_negative_log_likelihood_up_to_constants(shape: tuple[int, ...], sigma: float) -> None:
    mu, y = outputs_and_targets(*shape)
    nll = -stats.norm(mu.numpy(), sigma).logpdf(y.numpy()).reshape(6, -1).mean(axis=1)
    expected = mse(mu, y).numpy() / (2 * sigma**2) + 0.5 * np.log(2 * np.pi * sigma**2)
    np.testing.assert_allclose(nll, expected, rtol=1e-12)


def test_its_minimum_is_the_mean_and_the_fitted_gaussian() -> None:
    """Of one constant prediction, as maximum likelihood of a Gaussian fits it."""
    _, y = outputs_and_targets(50, 1)
    constant = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(mse(constant.expand(50, 1), y).mean(), constant)
    mean, sd = stats.norm.fit(y.numpy())
    assert slope.item() == pytest.approx(-2 * mean)
    assert mse(torch.full_like(y, mean), y).mean().item() == pytest.approx(sd**2)


def test_its_gradient_is_that_of_numerical_differentiation() -> None:
    mu, y = outputs_and_targets(4, 2, 5)
    assert torch.autograd.gradcheck(lambda z: mse(z, y), mu.requires_grad_())


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_a_task_of_classes_is_refused(output: str) -> None:
    with pytest.raises(UserError, match="loss=mse: it is a loss of a quantity, and this task predicts classes"):
        mse(*outputs_and_targets(2, 2), output=output)
