"""New points from the density of given points."""

from __future__ import annotations

import numpy as np

from einthoven.models.mixture import POINTS_PER_COMPONENT, sample_density


def test_new_points_lie_where_the_points_are_and_in_their_shares() -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 20 * POINTS_PER_COMPONENT)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 5 + rng.normal(0, 0.1, (len(angle), 2))
    drawn = sample_density(ring, 1000, seed=1)
    radius = np.linalg.norm(drawn, axis=1)
    assert np.mean(np.abs(radius - 5) < 0.8) > 0.98
    quadrants = np.histogram(np.arctan2(drawn[:, 1], drawn[:, 0]), bins=4, range=(-np.pi, np.pi))[0] / 1000
    np.testing.assert_allclose(quadrants, 0.25, atol=0.05)
    np.testing.assert_array_equal(drawn, sample_density(ring, 1000, seed=1))
    # The first points come from all components.
    assert len(np.unique(np.sign(drawn[:20]), axis=0)) == 4


def test_few_points_have_one_component_with_their_mean_and_covariance() -> None:
    points = np.random.default_rng(2).multivariate_normal([1, -2], [[2, 1], [1, 1]], POINTS_PER_COMPONENT)
    drawn = sample_density(points, 50_000, seed=0)
    np.testing.assert_allclose(drawn.mean(axis=0), points.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(points.T), atol=0.06)
