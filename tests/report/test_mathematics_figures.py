"""Figures of the experiments that show one idea: their numbers against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.report.edge import edge_figure
from einthoven.report.loss_parts import loss_parts_figure
from einthoven.report.position_attention import by_distance, most_uneven, position_attention_figure
from einthoven.report.prior_posterior import density, prior_posterior_figure
from einthoven.report.trials import Trial

STEPS = np.arange(1.0, 11.0)


def test_entropy_and_divergence_are_stacked_up_to_the_loss() -> None:
    entropy, divergence = np.full(10, 0.2), np.linspace(0.5, 0.1, 10)
    history = {
        "watch/diag/entropy_labels": (STEPS, entropy),
        "watch/diag/kl_labels": (STEPS, divergence),
        "train/loss": (STEPS, entropy + divergence),
    }
    (axes,) = loss_parts_figure([Trial({"augment": "mixup"}, history=history)], title="?").axes
    floor, rest = (area.get_paths()[0].vertices for area in axes.collections)
    assert floor[:, 1].max() == pytest.approx(0.2)
    assert (rest[:, 1].min(), rest[:, 1].max()) == pytest.approx((0.2, 0.7))
    (loss,) = axes.get_lines()
    np.testing.assert_allclose(loss.get_ydata(), entropy + divergence)
    assert axes.get_title(loc="left") == "mixup: floor 0.200"
    with pytest.raises(UserError, match="no metric watch/diag/entropy_labels"):
        loss_parts_figure([Trial({}, history={"train/loss": (STEPS, STEPS)})], title="?")


def test_sharpness_is_drawn_against_two_over_the_learning_rate() -> None:
    history = {"watch/diag/sharpness": (STEPS, STEPS), "train/loss": (STEPS, 1 / STEPS)}
    trials = [Trial({"optimizer.lr": rate}, {"optimizer.lr": rate}, history) for rate in ("0.1", "0.4")]
    above, below = edge_figure(trials, title="?").axes
    limits = [line.get_ydata()[0] for line in above.get_lines() if line.get_linestyle() == "--"]
    assert limits == pytest.approx([20.0, 5.0]) and len(below.get_lines()) == 2
    assert [text.get_text() for text in above.texts] == ["lr 0.4: 2/η = 5", "lr 0.1: 2/η = 20"]
    with pytest.raises(UserError, match="no metric watch/diag/sharpness"):
        edge_figure([Trial({}, {"optimizer.lr": "0.1"}, {"train/loss": (STEPS, STEPS)})], title="?")


def test_a_map_that_depends_on_the_distance_alone_is_found_by_distance() -> None:
    distance = np.subtract.outer(np.arange(8), np.arange(8))
    weights = np.exp(-np.abs(distance))
    distances, means = by_distance(weights)
    assert distances[0] == -6 and distances[-1] == 6
    np.testing.assert_allclose(means, np.exp(-np.abs(distances)))


def test_the_head_that_is_least_even_is_drawn_in_multiples_of_an_even_weight() -> None:
    even, local = np.full((4, 4), 0.25), np.roll(np.eye(4), 1, axis=1)
    run = Trial({"model.positions": "learned"}, arrays={"map/block1": np.stack([even, local])})
    name, weights = most_uneven(run)
    assert name == "block1, head 2"
    np.testing.assert_allclose(weights[~np.eye(4, dtype=bool)], 4 * local[~np.eye(4, dtype=bool)])
    assert np.isnan(np.diagonal(weights)).all()  # a token and itself have the same content
    flat = Trial({"model.positions": "none"}, arrays={"map/block1": even[None]})
    *maps, line = position_attention_figure([run, flat], title="?").axes[:3]
    assert [axes.get_title(loc="left").splitlines()[0] for axes in maps] == ["learned", "none"]
    distance, mean = line.get_lines()[1].get_data()
    np.testing.assert_allclose(mean[distance != 0], 1.0)
    with pytest.raises(UserError, match="analysis=mean_attention"):
        most_uneven(Trial({}))


def test_priors_and_posteriors_are_normal_densities() -> None:
    assert density(np.array([0.0, 2.0]), 0.0, 1.0) == pytest.approx([1.0, np.exp(-2.0)])
    arrays = {
        "mean": np.array([[0.0, 0.5]]),
        "deviation": np.array([[1.0, 0.1]]),
        "prior_deviation": np.array(1.0),
        "determined": np.array(0.99),
    }
    (axes,) = prior_posterior_figure([Trial({"penalty.strength": "0.1"}, arrays=arrays)], title="?").axes
    grid, narrowest = axes.get_lines()[2].get_data()
    assert grid[np.argmax(narrowest)] == pytest.approx(0.5, abs=0.01)
    assert axes.get_title(loc="left").endswith("data determine 50% of the weights")
    with pytest.raises(UserError, match="analysis=weight_posterior"):
        prior_posterior_figure([Trial({})], title="?")
