"""Hearts and noise that follow the fitted numbers: distributions, limits of normal, exchanged cables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from einthoven.data.synthetic import heart as hearts
from einthoven.data.synthetic.build import Build, _draw_build, draw_build, normal_heart, place_electrodes
from einthoven.data.synthetic.compose import TIME
from einthoven.data.synthetic.fitted import noise_levels, population
from einthoven.data.synthetic.leadfield import lead_field
from einthoven.data.synthetic.noise import NoisePlan, add_noise, draw_noise
from einthoven.data.synthetic.normality import LEAD_I, V1, V5, V6, Sources, is_normal, qrs_and_t
from einthoven.data.synthetic.render import project

Array = NDArray[np.float64]


def moments(build: Build) -> Array:
    return np.concatenate([build.qrs_moments.ravel(), build.t_moments.ravel(), build.p_moments.ravel()])


def test_hearts_of_the_population_have_the_fitted_mean_and_covariance() -> None:
    normal = population()
    rng = np.random.default_rng(0)
    drawn = [_draw_build(rng, 70, True) for _ in range(3000)]
    found = np.array([moments(build) for build in drawn])
    log_gain = np.log([build.gain for build in drawn])
    expected = np.array([1.0, 1.0, 0.5, log_gain.mean()]) @ normal.effects
    spread = np.sqrt((normal.loadings**2).sum(0))
    assert np.abs((found.mean(0) - expected) / spread).max() < 5 / np.sqrt(3000)
    rest = found - np.outer(log_gain - log_gain.mean(), normal.effects[3])
    assert np.allclose(rest.std(0), spread, rtol=0.1)
    assert np.allclose(np.cov(rest.T), normal.loadings.T @ normal.loadings, atol=0.12 * spread.max() ** 2)


@pytest.mark.parametrize(("age", "female"), [(20, True), (50, False), (85, True)])
def test_hearts_are_normal_before_any_condition(age: int, female: bool) -> None:
    for seed in range(12):
        build = draw_build(np.random.default_rng(seed), age, female)
        heart = normal_heart(np.random.default_rng(0), build)
        shape = project(heart, build.electrodes, 0.0)
        time = np.arange(0.0, shape.qrs_duration, 0.002)[:, None]
        qrs = np.exp(-0.5 * ((time - shape.qrs.centre) / shape.qrs.left) ** 2) @ shape.qrs.leads
        area_i, area_ii = qrs[:, :2].sum(0)
        axis = np.degrees(np.arctan2((2 * area_ii - area_i) / np.sqrt(3), area_i))
        assert -45 < axis < 110
        assert qrs[:, V1].min() < -qrs[:, V1].max()
        assert -qrs[:, V1].min() + qrs[:, [V5, V6]].max() < 5.2
        assert 0.07 <= shape.qrs_duration <= 0.11
        assert 0.11 <= shape.pr <= 0.2


def usual_waves() -> tuple[Array, Array]:
    """The QRS and T of the mean heart."""
    mean = population().effects[0].reshape(-1, 3)
    centre, width = np.array(hearts.T_CLOCK).T
    places = np.array([hearts.REGIONS[name][0] for name in hearts.T_REGIONS])
    return qrs_and_t(
        Sources(lead_field(hearts.PLACES), mean[:10], hearts.CENTRES, hearts.WIDTHS),
        Sources(lead_field(places), mean[10:17], centre, width),
    )


@given(st.floats(2.5, 10.0))
@settings(max_examples=20, deadline=None)
def test_limits_of_normal(factor: float) -> None:
    qrs, t = usual_waves()
    assert is_normal(qrs, t, 50, False)
    assert not is_normal(factor * qrs, factor * t, 50, False), "high voltage"
    assert not is_normal(qrs / (2 * factor), t, 50, False), "low voltage"
    assert not is_normal(qrs, t / factor**2, 50, False), "flat T"
    assert not is_normal(qrs, -t, 50, False), "inverted T"
    assert not is_normal(-qrs, t, 50, False), "extreme axis"
    assert not is_normal(qrs[[LEAD_I, 1, 7, 6, 5, 4, 3, 2]], t, 50, False), "R falls from V1 to V6"


def test_electrodes_are_near_their_places() -> None:
    rng = np.random.default_rng(2)
    build = draw_build(rng, 50, False)
    placed = np.array([place_electrodes(rng, build) for _ in range(400)])
    offset = placed - build.electrodes
    assert np.median(np.abs(offset)) < 0.5
    is_high = offset[:, 3:5, 1].mean(1) < -1.5
    is_low = offset[:, 6:, 1].mean(1) > 1.2
    assert 0.01 < is_high.mean() < 0.1
    assert 0.01 < is_low.mean() < 0.1
    assert np.abs(offset[:, :3]).max() < 2.5


def test_noise_has_the_fitted_levels() -> None:
    levels = noise_levels()
    rng = np.random.default_rng(3)
    plans = [draw_noise(rng) for _ in range(1500)]
    wander = np.log([plan.wander for plan in plans])
    # Rare strong wander and muscle noise are added to the levels, so that medians are compared.
    assert np.abs(np.median(wander, axis=0) - levels.wander.mean).max() < 0.15
    muscle = np.log([plan.muscle for plan in plans])
    assert np.abs(np.median(muscle, axis=0) - levels.muscle.mean)[3:].max() < 0.15
    everywhere, _, chest = levels.muscle.shared
    assert np.cov(muscle.T)[3, 8] == pytest.approx(everywhere**2 + chest**2, rel=0.25)


def test_wander_and_muscle_noise_have_the_drawn_standard_deviation() -> None:
    rng = np.random.default_rng(4)
    silent = np.zeros(9)
    clean = np.zeros((8, len(TIME)), dtype=np.float32)
    for wander, muscle in ((0.05, 0.0), (0.0, 0.02)):
        plan = NoisePlan(wander=silent + wander, muscle=silent + muscle, mains=silent)
        made = [add_noise(rng, clean, plan, TIME, 1.0)[2:] for _ in range(60)]
        # A chest lead is its electrode minus the mean of the limbs: 4/3 of the variance.
        assert np.sqrt(np.mean(np.square(made))) == pytest.approx((wander + muscle) * np.sqrt(4 / 3), rel=0.12)


def test_exchanged_arms_invert_lead_i_and_exchange_ii_and_iii() -> None:
    rng = np.random.default_rng(5)
    clean = rng.normal(0.0, 1.0, (8, len(TIME))).astype(np.float32)
    silent = np.zeros(9)
    order = np.array([1, 0, *range(2, 9)])
    swapped = add_noise(rng, clean, NoisePlan(silent, silent, silent, order=order), TIME, 1.0)
    assert np.allclose(swapped[0], -clean[0], atol=1e-5)
    assert np.allclose(swapped[1], clean[1] - clean[0], atol=1e-5)
    assert np.allclose(swapped[2:], clean[2:], atol=1e-5)
    plans = [draw_noise(np.random.default_rng(seed)) for seed in range(3000)]
    assert 0 < np.mean([(plan.order != np.arange(9)).any() for plan in plans]) < 0.02
