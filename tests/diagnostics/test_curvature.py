"""Curvature and landscapes against dense computations in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from einthoven.diagnostics.curvature import Hessian, sharpness, trace
from einthoven.diagnostics.landscape import (
    filter_normalized,
    flatten,
    interpolation,
    loss_slice,
    trajectory_plane,
    unflatten,
)
from einthoven.models.attention import explicit_attention
from einthoven.models.conv_attention import ConvAttention

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = (torch.rand(12, 3, generator=torch.Generator().manual_seed(1)) < 0.5).double()


def a_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def loss_of(network: nn.Module) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(network(X), Y)


def dense(network: nn.Module, loss: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
    """The whole Hessian, by torch's own function."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    sizes = [p.numel() for p in parameters]

    def of(vector: Tensor) -> Tensor:
        parts = zip(names, parameters, torch.split(vector, sizes), strict=True)
        return loss({name: part.view_as(p) for name, p, part in parts})

    vector = torch.cat([p.detach().flatten() for p in parameters])
    return torch.autograd.functional.hessian(of, vector)  # type: ignore[return-value,no-untyped-call]


@pytest.fixture(scope="module")
def matrix() -> Tensor:
    network = a_network()
    return dense(
        network,
        lambda state: nn.functional.binary_cross_entropy_with_logits(functional_call(network, state, (X,)), Y),
    )


def a_hessian() -> Hessian:
    network = a_network()
    return Hessian(loss_of(network), list(network.parameters()))


def test_products_equal_those_with_the_dense_hessian(matrix: Tensor) -> None:
    vector = torch.randn(43, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(a_hessian().product(vector), matrix @ vector)


@pytest.mark.parametrize("seed", range(5))
def test_sharpness_is_the_largest_eigenvalue(matrix: Tensor, seed: int) -> None:
    expected = float(torch.linalg.eigvalsh(matrix)[-1])
    generator = torch.Generator().manual_seed(seed)
    assert sharpness(a_hessian(), generator, iterations=43, tolerance=1e-9) == pytest.approx(expected, rel=1e-7)
    assert sharpness(a_hessian(), generator) == pytest.approx(expected, rel=2e-3)


def test_sharpness_of_a_hessian_with_given_eigenvalues() -> None:
    """A quadratic form; the largest eigenvalue is not the one of largest magnitude."""
    q, _ = torch.linalg.qr(torch.randn(60, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    matrix = q @ torch.diag(torch.linspace(-9, 4, 60, dtype=torch.float64)) @ q.T
    w = torch.zeros(60, dtype=torch.float64, requires_grad=True)
    found = sharpness(Hessian(0.5 * w @ matrix @ w, [w]), torch.Generator().manual_seed(0), iterations=60)
    assert found == pytest.approx(4, rel=1e-3)
    line = Hessian((3 * w).sum(), [w])
    assert sharpness(line, torch.Generator()) == 0 and trace(line, torch.Generator()) == 0
    assert math.isnan(sharpness(Hessian((w / w).sum() * w.square().sum(), [w]), torch.Generator()))


def test_the_trace_is_that_of_the_dense_hessian_within_its_error(matrix: Tensor) -> None:
    probes = 2000
    off = matrix - torch.diag(matrix.diagonal())
    error = math.sqrt(2 / probes) * float(off.norm())
    found = trace(a_hessian(), torch.Generator().manual_seed(0), probes=probes)
    assert abs(found - float(matrix.trace())) < 4 * error
    assert error < 0.05 * float(matrix.trace())  # so that a wrong one would be seen


def test_the_trace_of_a_diagonal_hessian_is_exact() -> None:
    w = torch.ones(7, dtype=torch.float64, requires_grad=True)
    scale = torch.arange(1.0, 8.0, dtype=torch.float64)
    assert trace(Hessian((scale * w**3).sum(), [w]), torch.Generator(), probes=1) == pytest.approx(6 * 28)


def test_attention_and_convolutions_have_a_hessian() -> None:
    """Of the default network, made small, in float64, with the fused attention turned off."""
    torch.manual_seed(0)
    network = ConvAttention(2, 2, channels=[4, 4], heads=2, stem_kernel=3, kernel=3, window=None).double().eval()
    x = torch.randn(3, 2, 40, dtype=torch.float64)
    y = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    parameters = list(network.parameters())
    with explicit_attention():
        hessian = Hessian(nn.functional.binary_cross_entropy_with_logits(network(x), y), parameters)
        identity = torch.eye(hessian.size, dtype=torch.float64)
        columns = torch.stack([hessian.product(row) for row in identity[:: hessian.size // 20]])
        found = sharpness(hessian, torch.Generator().manual_seed(0), iterations=200, tolerance=1e-7)
        # by differences of gradients, which need no second derivative
        names = [name for name, _ in network.named_parameters()]

        def gradient(vector: Tensor) -> Tensor:
            parts = torch.split(vector, [p.numel() for p in parameters])
            state = {n: v.view_as(p).requires_grad_() for n, v, p in zip(names, parts, parameters, strict=True)}
            loss = nn.functional.binary_cross_entropy_with_logits(functional_call(network, state, (x,)), y)
            return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(state.values()))])

        w = torch.cat([p.detach().flatten() for p in parameters])
        step = 1e-5
        for column, row in zip(columns, identity[:: hessian.size // 20], strict=True):
            difference = (gradient(w + step * row) - gradient(w - step * row)) / (2 * step)
            torch.testing.assert_close(column, difference, atol=1e-5, rtol=1e-4)
        full = torch.stack([hessian.product(row) for row in identity])
    assert found == pytest.approx(float(torch.linalg.eigvalsh((full + full.T) / 2)[-1]), rel=1e-5)


# ---------------------------------------------------------------- landscapes


def test_each_filter_of_a_direction_is_as_long_as_that_of_the_weights() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(2, 5, 3), nn.BatchNorm1d(5), nn.Flatten(), nn.Linear(10, 3))
    parameters = list(network.parameters())
    direction = filter_normalized(parameters, torch.Generator().manual_seed(0))
    for p, d in zip(parameters, direction, strict=True):
        expected = p.detach().flatten(1).norm(dim=1) if p.ndim > 1 else torch.zeros(())
        torch.testing.assert_close(d.flatten(1).norm(dim=1) if p.ndim > 1 else d.norm(), expected)
    again = filter_normalized(parameters, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(direction, again, strict=True))


def test_a_slice_equals_the_losses_of_models_with_those_weights() -> None:
    network = a_network()
    parameters = list(network.parameters())
    before = [p.detach().clone() for p in parameters]
    generator = torch.Generator().manual_seed(3)
    first, second = (filter_normalized(parameters, generator) for _ in range(2))
    a, b = np.linspace(-1, 1, 5), np.linspace(-0.5, 2, 3)
    found = loss_slice(lambda: loss_of(network), parameters, [first, second], [a, b])
    assert found.shape == (5, 3)
    for i, j in np.ndindex(5, 3):
        other = a_network()
        with torch.no_grad():
            for p, w, u, v in zip(other.parameters(), before, first, second, strict=True):
                p.copy_(w + a[i] * u + b[j] * v)
        assert found[i, j] == pytest.approx(loss_of(other).item(), rel=1e-12)
    assert all(torch.equal(p, w) for p, w in zip(parameters, before, strict=True))
    line = loss_slice(lambda: loss_of(network), parameters, [first], [a])
    assert line[2] == pytest.approx(loss_of(network).item(), rel=1e-12)


def test_the_weights_are_back_even_if_the_loss_fails() -> None:
    network = a_network()
    parameters = list(network.parameters())
    before = [p.detach().clone() for p in parameters]
    direction = filter_normalized(parameters, torch.Generator())

    def fails() -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        loss_slice(fails, parameters, [direction], [np.ones(2)])
    assert all(torch.equal(p, w) for p, w in zip(parameters, before, strict=True))


def test_the_plane_of_a_trajectory_is_that_of_its_singular_vectors() -> None:
    rng = np.random.default_rng(0)
    path = np.cumsum(rng.standard_normal((8, 40)), axis=0)
    plane = trajectory_plane(list(path))
    differences = path[:-1] - path[-1]
    _, s, vt = np.linalg.svd(differences, full_matrices=False)
    np.testing.assert_allclose(np.abs(plane.directions @ vt[:2].T), np.eye(2), atol=1e-8)
    np.testing.assert_allclose(plane.explained, s[:2] ** 2 / (s**2).sum())
    np.testing.assert_allclose(plane.path[:-1], differences @ plane.directions.T)
    assert (plane.path[-1] == 0).all()
    line = trajectory_plane(list(np.outer([3.0, 2.0, 1.0], np.ones(4))))
    np.testing.assert_allclose(line.explained, [1, 0], atol=1e-12)
    with pytest.raises(ValueError, match="three points"):
        trajectory_plane(list(path[:2]))


def test_flat_and_back() -> None:
    parameters = [p.detach().float() for p in a_network().parameters()]
    back = unflatten(flatten(parameters), parameters)
    assert all(torch.equal(a, b) for a, b in zip(parameters, back, strict=True))


def test_the_line_between_two_runs() -> None:
    torch.manual_seed(0)
    model, other = (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double().eval() for _ in range(2))
    other[1].running_mean += 2
    state = {name: value.clone() for name, value in model.state_dict().items()}

    def loss(of: nn.Module) -> Tensor:
        return nn.functional.mse_loss(of(X), Y)

    shares = np.array([0, 0.25, 1])
    found = interpolation(lambda: loss(model), model, other.state_dict(), shares)
    assert found[0] == pytest.approx(loss(other).item()) and found[2] == pytest.approx(loss(model).item())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    between = {n: v.lerp(state[n], 0.25) if v.is_floating_point() else v for n, v in other.state_dict().items()}
    model.load_state_dict(between)
    assert found[1] == pytest.approx(loss(model).item())
