"""Entropy and its parts, intervals of probabilities, and distance from the training data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, entropy
from sklearn.covariance import ledoit_wolf

from einthoven.errors import UserError
from einthoven.evaluation.band import calibration_covariance, logits_and_deviation
from einthoven.evaluation.familiarity import Familiarity, shrunk_covariance
from einthoven.evaluation.uncertainty import entropy_parts


def test_the_parts_of_the_entropy_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), size=(5, 7))
    parts = entropy_parts(p, single_label=True)
    assert parts.total == pytest.approx(entropy(p.mean(axis=0), axis=-1))
    assert parts.aleatoric == pytest.approx(entropy(p, axis=-1).mean(axis=0))
    # the mutual information of member and answer is the mean divergence of the members from their mean
    divergence = entropy(p, np.broadcast_to(p.mean(axis=0), p.shape), axis=-1).mean(axis=0)
    assert parts.epistemic == pytest.approx(divergence)
    both = entropy_parts(p, single_label=False)
    binary = np.stack([p, 1 - p], axis=-1)
    assert both.total == pytest.approx(entropy(binary.mean(axis=0), axis=-1).mean(axis=-1))
    assert both.aleatoric == pytest.approx(entropy(binary, axis=-1).mean(axis=-1).mean(axis=0))


@given(st.integers(0, 1000), st.booleans())
def test_the_parts_add_up_and_members_that_agree_leave_nothing_open(seed: int, single_label: bool) -> None:
    p = np.random.default_rng(seed).dirichlet(np.ones(3), size=(4, 5))
    parts = entropy_parts(p, single_label)
    assert parts.total == pytest.approx(parts.aleatoric + parts.epistemic)
    largest = np.log(3) if single_label else np.log(2)
    assert (parts.epistemic >= 0).all() and (parts.total <= largest + 1e-12).all()
    assert entropy_parts(p[:1].repeat(4, axis=0), single_label).epistemic == pytest.approx(np.zeros(5), abs=1e-12)


def test_the_interval_holds_the_refitted_line_as_often_as_it_says() -> None:
    """Labels drawn anew from the stated probabilities; the maximum-likelihood line through them, by Newton's method."""
    rng = np.random.default_rng(0)
    z = rng.normal(-1, 1.5, 400)
    p = 1 / (1 + np.exp(-z))
    at = np.array([0.05, 0.3, 0.8])
    design, grid = np.stack([np.ones_like(z), z], axis=1), np.stack([np.ones(3), np.log(at / (1 - at))], axis=1)
    inside = []
    for _ in range(400):
        y = rng.uniform(size=400) < p
        logit, deviation = logits_and_deviation(at[:, None], calibration_covariance(y[:, None], p[:, None]))
        half_width = 1.959963984540054 * deviation[:, 0]
        line = np.array([0.0, 1.0])
        for _ in range(8):
            q = 1 / (1 + np.exp(-design @ line))
            line += np.linalg.solve((design * (q * (1 - q))[:, None]).T @ design, design.T @ (y - q))
        inside.append(np.abs(grid @ line - logit[:, 0]) <= half_width)
    assert np.mean(inside, axis=0) == pytest.approx(0.95, abs=0.04)


def test_the_interval_of_a_class_without_both_labels_is_unknown() -> None:
    y, p = np.array([[1, 0], [0, 0], [1, 0]]), np.full((3, 2), 0.4)
    logit, deviation = logits_and_deviation(p, calibration_covariance(y, p))
    assert logit == pytest.approx(np.log(0.4 / 0.6))
    assert (deviation[:, 0] > 0).all() and np.isnan(deviation[:, 1]).all()


def test_distances_are_those_of_the_inverse_covariance_and_the_share_is_uniform() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6))
    train, held, new = (rng.normal(size=(n, 6)) @ mix + 3.0 for n in (4000, 300, 3000))
    found = Familiarity.fit(train, held)
    centred = new - train.mean(axis=0)
    exact = np.sqrt(np.einsum("ni,ij,nj->n", centred, np.linalg.inv(np.cov(train.T)), centred) / 6)
    assert found.distance(new) == pytest.approx(exact, rel=0.05)  # the covariance is shrunk a little
    assert np.mean(found.distance(new) ** 2 * 6 <= chi2.ppf(0.9, 6)) == pytest.approx(0.9, abs=0.03)
    share = found.share(found.distance(new))
    for level in (0.05, 0.2, 0.5):
        assert np.mean(share <= level) == pytest.approx(level, abs=0.07)  # 300 records hold it so far
    assert found.share(found.distance(new[:1] + 100.0)) == pytest.approx(1 / 301)
    assert found.share(np.array([0.0])) == 1.0


@pytest.mark.parametrize(("n", "d"), [(50, 3), (20, 40), (30, 1)])
def test_the_covariance_is_shrunk_as_that_of_scikit_learn(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 5
    np.testing.assert_allclose(shrunk_covariance(x), ledoit_wolf(x)[0], rtol=1e-10, atol=1e-12)


def test_features_that_are_too_many_or_too_few_are_refused() -> None:
    with pytest.raises(UserError, match="1025 features found"):
        Familiarity.fit(np.zeros((3, 1025)), np.zeros((3, 1025)))
    with pytest.raises(UserError, match="one other record"):
        Familiarity.fit(np.zeros((3, 2)), np.zeros((0, 2)))
