from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from einthoven.losses.contrastive import info_nce, mutual_information_bound, nt_xent


def embeddings(n: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, 3, generator=generator, dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


def test_info_nce_is_a_cross_entropy_over_scores() -> None:
    scores = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = np.exp(scores.numpy()) / np.exp(scores.numpy()).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(info_nce(scores).numpy(), -np.log(np.diag(p)))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_nt_xent_is_its_formula(temperature: float) -> None:
    a, b = embeddings()
    views = torch.cat([a, b]).numpy()
    unit = views / np.linalg.norm(views, axis=1, keepdims=True)
    n, each = len(a), []
    for i in range(2 * n):
        others = [j for j in range(2 * n) if j != i]
        weights = {j: math.exp(unit[i] @ unit[j] / temperature) for j in others}
        each.append(-math.log(weights[(i + n) % (2 * n)] / sum(weights.values())))
    expected = [(each[i] + each[i + n]) / 2 for i in range(n)]
    np.testing.assert_allclose(nt_xent(a, b, temperature=temperature).numpy(), expected)


def test_nt_xent_sees_directions_alone_and_both_views_alike() -> None:
    a, b = embeddings()
    torch.testing.assert_close(nt_xent(3 * a, 0.5 * b), nt_xent(a, b))
    torch.testing.assert_close(nt_xent(b, a), nt_xent(a, b))
    assert nt_xent(a, a).mean() < nt_xent(a, a.roll(1, dims=0)).mean()


def test_gradients() -> None:
    a, b = (x.requires_grad_() for x in embeddings(4))
    assert torch.autograd.gradcheck(nt_xent, (a, b))


def log_density_ratio(rho: float, n: int, seed: int) -> Tensor:
    """Log p(y|x) / p(y) of all pairs of n draws of two standard normals with correlation rho."""
    generator = torch.Generator().manual_seed(seed)
    x, e = torch.randn(2, n, generator=generator, dtype=torch.float64)
    y = rho * x + math.sqrt(1 - rho**2) * e
    return Normal(rho * x[:, None], math.sqrt(1 - rho**2)).log_prob(y[None]) - Normal(0.0, 1.0).log_prob(y[None])


def bound(scores: Tensor) -> float:
    """The bound for the mean over the records of a batch, whose partners are on the diagonal."""
    return mutual_information_bound(info_nce(scores), len(scores)).mean().item()


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.99])
def test_the_bound_is_below_the_mutual_information_of_gaussians_and_near_it_for_many(rho: float) -> None:
    truth = -0.5 * math.log(1 - rho**2)
    few, many = (np.array([bound(log_density_ratio(rho, n, seed)) for seed in range(60)]) for n in (8, 256))
    for bounds in (few, many):
        error = bounds.std(ddof=1) / math.sqrt(len(bounds))
        assert bounds.mean() <= truth + 4 * error
    assert many.mean() == pytest.approx(truth, abs=0.05)
    assert few.mean() <= many.mean() + 0.05


def test_the_bound_has_a_ceiling_at_the_logarithm_of_the_number() -> None:
    rho, n = 0.999999, 8
    truth = -0.5 * math.log(1 - rho**2)
    bounds = [bound(log_density_ratio(rho, n, seed)) for seed in range(20)]
    assert max(bounds) <= math.log(n) < truth
    assert np.mean(bounds) == pytest.approx(math.log(n), abs=0.05)
    assert bound(1e4 * torch.eye(n)) == pytest.approx(math.log(n))


def test_a_worse_critic_gives_a_lower_bound() -> None:
    scores = [log_density_ratio(0.9, 128, seed) for seed in range(20)]
    right = np.mean([bound(s) for s in scores])
    assert np.mean([bound(0.2 * s) for s in scores]) < right
