"""A penalty is a prior: the weights it leads to are the most probable ones of a linear model."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import Lasso, Ridge
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.losses.classification import cross_entropy
from einthoven.optim.optimizers import schedule_free_adamw, sgd
from einthoven.optim.penalties import L1, L2, Penalty, ProximalL1
from einthoven.training.step import train_step


class LeastSquares:
    """Mean squared distance: twice the variance times the negative log-likelihood of Gaussian noise, a record."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        outputs = model(batch.x.flatten(1))
        return ((outputs - batch.y) ** 2).mean(), outputs

    def activation(self, logits: Tensor) -> Tensor:
        return logits


class CrossEntropy(LeastSquares):
    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = model(batch.x.flatten(1))
        return nn.functional.binary_cross_entropy_with_logits(logits, batch.y), logits


def regression(n: int = 60, features: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, features, generator=generator, dtype=torch.float64)
    weights = torch.tensor([3.0, -2.0, 1.0, 0.5] + [0.0] * (features - 4), dtype=torch.float64)
    y = x @ weights + 0.7 + 0.5 * torch.randn(n, generator=generator, dtype=torch.float64)
    return Batch(x[:, None], y[:, None], torch.arange(n), torch.ones(n, dtype=torch.bool))


def train(
    model: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer, penalty: Penalty, steps: int, task: object = None
) -> dict[str, Tensor]:
    """Full-batch steps through the loop's own step."""
    for _ in range(steps):
        seen = train_step(
            model,
            task or LeastSquares(),  # type: ignore[arg-type]
            batch,
            optimizer,
            augment=lambda x, y, generator: (x, y),
            generator=torch.Generator(),
            autocast=contextlib.nullcontext,
            clip_norm=math.inf,
            penalty=penalty,
        )
    return seen


def descended(batch: Batch, penalty: Penalty) -> nn.Linear:
    torch.manual_seed(1)
    model = nn.Linear(batch.x.shape[2], 1).double()
    train(model, batch, sgd(model, lr=0.1, momentum=0.0, weight_decay=0.0), penalty, 400)
    return model


def test_l2_is_a_gaussian_prior() -> None:
    """Noise of variance s² and a prior of variance t² make ridge regression, alpha = s² / t², the bias left alone."""
    batch, strength = regression(), 0.3
    found = descended(batch, L2(strength))
    x, y = batch.x[:, 0].numpy(), batch.y[:, 0].numpy()
    oracle = Ridge(alpha=len(x) * strength / 2).fit(x, y)
    np.testing.assert_allclose(found.weight.detach().numpy()[0], oracle.coef_, rtol=1e-8)
    assert float(found.bias) == pytest.approx(oracle.intercept_)
    centred = x - x.mean(axis=0)  # and in closed form
    posterior = np.linalg.solve(
        centred.T @ centred + len(x) * strength / 2 * np.eye(x.shape[1]), centred.T @ (y - y.mean())
    )
    np.testing.assert_allclose(found.weight.detach().numpy()[0], posterior, rtol=1e-8)


@pytest.mark.parametrize(("output", "labels"), [("sigmoid", 1), ("sigmoid", 3), ("sigmoid", 5), ("softmax", 4)])
@pytest.mark.parametrize("kind", [L2, L1])
def test_the_prior_of_a_classifier_has_the_stated_width(kind: type[L2 | L1], output: str, labels: int) -> None:
    n, features, strength = 30, 4, 0.07
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(n, features)))
    if output == "sigmoid":
        y = rng.random((n, labels)) < 0.3
        width = 1 / (n * labels * strength)
    else:
        y = np.eye(labels, dtype=bool)[rng.integers(labels, size=n)]
        width = 1 / (n * strength)
    prior = stats.norm(0, math.sqrt(width)) if kind is L2 else stats.laplace(0, width)
    layer = nn.Linear(features, labels, bias=False).double()
    differences = []
    for _ in range(4):
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(rng.normal(size=(labels, features))))
            logits = layer(x)
            minimized = cross_entropy(logits, torch.from_numpy(y.astype(float)), output=output).mean()
            minimized += kind(strength).loss(layer)
        p = logits.sigmoid().numpy() if output == "sigmoid" else logits.softmax(dim=1).numpy()
        likelihood = np.log(np.where(y, p, 1 - p)).sum() if output == "sigmoid" else np.log(p[y]).sum()
        posterior = likelihood + prior.logpdf(layer.weight.detach().numpy()).sum()
        scale = n * labels if output == "sigmoid" else n
        differences.append(scale * float(minimized) + posterior)
    assert np.ptp(differences) < 1e-9  # both fall and rise together, whatever the weights


def test_l1_by_its_proximal_step_is_a_laplace_prior_with_exact_zeros() -> None:
    batch, strength = regression(), 0.5
    penalty = ProximalL1(strength)
    found = descended(batch, penalty)
    x, y = batch.x[:, 0].numpy(), batch.y[:, 0].numpy()
    oracle = Lasso(alpha=strength / 2, tol=1e-12, max_iter=100_000).fit(x, y)
    np.testing.assert_allclose(found.weight.detach().numpy()[0], oracle.coef_, atol=1e-8)
    zeros = (oracle.coef_ == 0).mean()
    assert zeros >= 0.25
    assert float(penalty.metrics(found)["watch/weight/zeros"]) == pytest.approx(zeros)


def test_l1_by_its_subgradient_comes_near_the_same_weights_but_not_to_zero() -> None:
    batch, strength = regression(), 0.5
    near, exact = descended(batch, L1(strength)), descended(batch, ProximalL1(strength))
    np.testing.assert_allclose(near.weight.detach(), exact.weight.detach(), atol=0.2 * strength)  # of a step
    assert float(L1(strength).metrics(near)["watch/weight/zeros"]) == 0.0


@given(w=st.floats(-10, 10), lr=st.floats(0, 1), strength=st.floats(0, 10))
def test_the_proximal_step_is_the_proximal_operator(w: float, lr: float, strength: float) -> None:
    """Of all v, it minimizes (v - w)² / 2 + lr · strength · |v|; biases stay."""
    model = nn.Linear(1, 1).double()
    nn.init.constant_(model.weight, w)
    bias = model.bias.detach().clone()
    optimizer = sgd(model, lr=lr)
    ProximalL1(strength).after_step(optimizer)
    found = float(model.weight)
    candidates = np.append(np.linspace(-12, 12, 2001), [0.0, w, w - lr * strength, w + lr * strength])
    cost = lambda v: (v - w) ** 2 / 2 + lr * strength * np.abs(v)  # noqa: E731
    assert cost(found) <= cost(candidates).min() + 1e-9
    assert torch.equal(model.bias, bias)


def test_the_threshold_follows_the_schedule() -> None:
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimizer = sgd(model, lr=0.5)
    optimizer.param_groups[0]["lr"] = 0.0
    ProximalL1(1e3).after_step(optimizer)
    assert torch.equal(model.weight, before)


def test_a_penalty_is_told_beside_the_loss() -> None:
    batch = regression()
    torch.manual_seed(0)
    model = nn.Linear(8, 1).double()
    expected = {"l1": 0.1 * model.weight.abs().sum().item(), "l2": 0.05 * model.weight.square().sum().item()}
    plain = LeastSquares().loss(model, batch)[0].item()
    for name, penalty in {"l1": L1(0.1), "l2": L2(0.1)}.items():
        seen = train(model, batch, sgd(model, lr=0.0), penalty, 1)
        assert float(seen["train/penalty"]) == pytest.approx(expected[name])
        assert float(seen["train/loss"]) == pytest.approx(plain)
    assert "train/penalty" not in train(model, batch, sgd(model, lr=0.0), Penalty(), 1)


def test_averages_are_not_zero_so_the_pair_is_refused() -> None:
    with pytest.raises(UserError, match="penalty=l1"):
        ProximalL1(0.1).check(schedule_free_adamw(nn.Linear(3, 2)))
    ProximalL1(0.1).check(sgd(nn.Linear(3, 2)))


@pytest.mark.parametrize("kind", [L1, L2, ProximalL1])
def test_a_negative_strength_is_refused(kind: type) -> None:
    with pytest.raises(UserError, match=r"penalty\.strength=-1"):
        kind(-1.0)


# ---------------------------------------------------------------- convex and not


def classification() -> Batch:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    y = (x[:, 0] * x[:, 1] > 0).double()  # as XOR: no line tells them apart
    return Batch(x[:, None], y[:, None], torch.arange(40), torch.ones(40, dtype=torch.bool))


def optimum(model: nn.Module) -> tuple[float, float]:
    """Objective and norm of its gradient where L-BFGS comes to rest."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=500, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    for _ in range(4):
        seen = train(model, classification(), optimizer, L2(1e-3), 1, CrossEntropy())
    return float(seen["train/loss"] + seen["train/penalty"]), float(seen["watch/grad/norm"])


def started(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=1.5, generator=generator)
    return model


def test_logistic_regression_with_l2_has_one_optimum() -> None:
    ends = [started(nn.Linear(2, 1).double(), seed) for seed in (0, 1)]
    (low, slope), (other, other_slope) = map(optimum, ends)
    assert max(slope, other_slope) < 1e-6
    assert low == pytest.approx(other, abs=1e-10)
    for a, b in zip(ends[0].parameters(), ends[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_two_layers_come_to_rest_in_different_places() -> None:
    found = [
        optimum(started(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).double(), seed)) for seed in range(6)
    ]
    at_rest = [objective for objective, slope in found if slope < 1e-6]
    assert len(at_rest) >= 2
    assert max(at_rest) - min(at_rest) > 0.05
