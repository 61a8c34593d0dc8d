"""The Laplace approximation against automatic differentiation, integration and sampling, and in its limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.optimize import minimize
from scipy.special import expit

from einthoven.evaluation.laplace import (
    BIAS_PRECISION,
    LastLayer,
    append_bias,
    fisher_information,
    fit_last_layer,
    posterior_covariance,
)

Float = NDArray[np.float64]
TAU = 1.0


def toy(n: int, seed: int = 0) -> tuple[Float, Float]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1))
    return x, (rng.random(n) < expit(1.0 + 1.5 * x[:, 0])).astype(float)


def negative_log_posterior(w: Float, x: Float, y: Float) -> Float:
    """Up to a constant, of weights (..., 2); the bias has a flat prior."""
    logits = w @ append_bias(x).T
    return np.asarray((np.logaddexp(0, logits) - y * logits).sum(axis=-1) + TAU / 2 * w[..., 0] ** 2)


def fitted(n: int) -> tuple[LastLayer, Float, Float]:
    x, y = toy(n)
    peak = minimize(negative_log_posterior, np.zeros(2), args=(x, y), tol=1e-10).x
    return fit_last_layer(x, peak[None], TAU), x, y


def integrated(x: Float, y: Float, at: Float) -> tuple[Float, Float]:
    """Covariance (2, 2) of the exact posterior, and its predictions, on a grid of weights."""
    axis = np.linspace(-3, 7, 201)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_posterior = -negative_log_posterior(grid, x, y)
    weight = np.exp(log_posterior - log_posterior.max())
    weight /= weight.sum()
    centred = grid - weight @ grid
    return centred.T @ (weight[:, None] * centred), weight @ expit(grid @ append_bias(at).T)


def test_it_agrees_with_the_integrated_posterior() -> None:
    layer, x, y = fitted(100)
    at = np.linspace(-4, 4, 17)[:, None]
    covariance, expected = integrated(x, y, at)
    np.testing.assert_allclose(layer.covariance[0], covariance, rtol=0.25)
    assert np.abs(layer.predict(at)[:, 0] - expected).max() < 0.03


def test_the_covariance_is_the_inverse_hessian_of_the_negative_log_posterior() -> None:
    """By automatic differentiation in all weights of all units at once."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(40, 3)), rng.normal(size=(2, 4))
    y = torch.from_numpy((rng.random((40, 2)) < 0.4).astype(float))
    phi = torch.from_numpy(append_bias(x))
    precision = torch.tensor([TAU, TAU, TAU, BIAS_PRECISION], dtype=torch.float64)

    def objective(weights: torch.Tensor) -> torch.Tensor:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(phi @ weights.T, y, reduction="sum")
        return loss + 0.5 * (precision * weights.square()).sum()

    hessian = torch.autograd.functional.hessian(objective, torch.from_numpy(w)).reshape(8, 8).numpy()
    found = block_diag(*fit_last_layer(x, w, TAU).covariance)
    np.testing.assert_allclose(found, np.linalg.inv(hessian), rtol=1e-8, atol=1e-12)


def test_it_is_exact_for_a_gaussian_likelihood() -> None:
    """Conditioning the joint normal distribution of weights and observations on the observations gives the same."""
    rng = np.random.default_rng(0)
    phi, sigma = append_bias(rng.normal(size=(30, 4))), 0.7
    prior = np.diag([1 / TAU] * 4 + [1 / BIAS_PRECISION])
    observed = phi @ prior @ phi.T + sigma**2 * np.eye(30)
    conditioned = prior - prior @ phi.T @ np.linalg.solve(observed, phi @ prior)
    found = posterior_covariance(fisher_information(phi, np.full((30, 1), sigma**-2)), TAU)[0]
    np.testing.assert_allclose(found, conditioned, rtol=1e-4, atol=1e-6)


def test_its_predictions_are_the_mean_over_drawn_weights() -> None:
    layer, _, _ = fitted(25)
    at = np.linspace(-30, 30, 25)[:, None]
    drawn = np.random.default_rng(0).multivariate_normal(layer.weights[0], layer.covariance[0], size=40_000)
    np.testing.assert_allclose(layer.predict(at)[:, 0], expit(append_bias(at) @ drawn.T).mean(axis=1), atol=0.02)


def test_with_many_records_it_is_the_trained_layer() -> None:
    at = np.linspace(-2, 2, 9)[:, None]
    gaps = []
    for n in (30, 300, 30_000):
        layer, _, _ = fitted(n)
        gaps.append(np.abs(layer.predict(at)[:, 0] - expit(append_bias(at) @ layer.weights[0])).max())
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 1e-3


def test_it_is_never_surer_than_the_trained_layer_and_unsure_far_away() -> None:
    layer, _, _ = fitted(50)
    at = np.linspace(-50, 50, 41)[:, None]
    found, trained = layer.predict(at)[:, 0], expit(append_bias(at) @ layer.weights[0])
    assert (np.abs(found - 0.5) <= np.abs(trained - 0.5) + 1e-12).all()
    assert trained[-1] > 0.9999 > found[-1]
    further = layer.predict(np.array([[1e2], [1e4], [1e6]]))[:, 0]  # where it ends: m and the root of v grow alike
    assert further[-1] == pytest.approx(further[-2], abs=1e-3) and further[-1] < 0.999


def test_the_evidence_finds_the_precision_that_weights_were_drawn_with() -> None:
    """At the fixed point, precision × squared norm = the number of well-determined weights."""
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(3000, 20)), np.column_stack([rng.normal(0, 0.5, (4, 20)), np.zeros(4)])
    layer = fit_last_layer(x, w)
    determined = 80 - layer.prior_precision * sum(np.trace(c[:-1, :-1]) for c in layer.covariance)
    assert layer.prior_precision * np.square(w[:, :-1]).sum() == pytest.approx(determined, rel=1e-3)
    assert layer.prior_precision == pytest.approx(4.0, rel=0.35)


def test_rows_that_share_a_record_count_once() -> None:
    layer, x, _ = fitted(40)
    twice = fit_last_layer(np.repeat(x, 2, axis=0), layer.weights, TAU, share=0.5)
    np.testing.assert_allclose(twice.covariance, layer.covariance, rtol=1e-9)
