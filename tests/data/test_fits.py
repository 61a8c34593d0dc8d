"""The scripts that fit the generator: they find what they are given."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from einthoven.data.synthetic.fitted import population

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    # Both scripts belong to this test alone: they change arrays of their module.
    for name in ("fit_hearts", "fit_noise"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_fit_finds_the_beats_of_a_known_population() -> None:
    import fit_hearts as fits

    rng = np.random.default_rng(0)
    normal = population()
    people = 120
    covariates = np.column_stack([np.ones(people), rng.uniform(-1, 1, people), rng.choice([-0.5, 0.5], people)])
    covariates = np.column_stack([covariates, rng.normal(0, 0.2, people)])
    moments = covariates @ normal.effects + rng.standard_normal((people, len(normal.loadings))) @ normal.loadings
    onset, duration, qt, pr = (
        np.full(people, -0.045),
        np.full(people, 0.09),
        np.full(people, 0.39),
        np.full(people, 0.16),
    )
    model = np.concatenate(
        [fits.qrs_columns(-0.045, 0.09), fits.t_columns(-0.045, 0.39), fits.p_columns(-0.045 - 0.16)], axis=2
    )
    beats = np.einsum("ltk,nk->nlt", model, moments)
    noisy = beats + rng.normal(0.0, 0.01, beats.shape)

    fit = fits.fit_moments(noisy, (onset, duration, qt, pr), np.full(people, 0.9), covariates)
    assert 0.4 < fit.is_kept.mean() <= 0.9
    expected = np.einsum("ltk,nk->nlt", model, covariates[fit.is_kept] @ fit.effects).mean(0)
    # The prior mean weighs as much as 50 records, so that 120 people move the mean by most of the way.
    assert np.abs(expected - beats[fit.is_kept].mean(0)).max() < 0.12 * np.abs(beats.mean(0)).max()
    assert np.abs(fit.lead_errors - 1).max() < 0.05

    # The spread of the beats, in mV, is that of the records that were kept.
    spread = np.sqrt(np.einsum("ltk,kj,ltj->lt", model, fit.covariance, model))
    is_large = beats.std(0) > 0.1
    assert np.allclose(spread[is_large], beats[fit.is_kept].std(0)[is_large], rtol=0.35)


def test_times_are_found_within_a_sample() -> None:
    import fit_hearts as fits

    mean = population().effects[0]
    onset, duration, qt, pr = -0.045, 0.09, 0.39, 0.16
    model = np.concatenate(
        [fits.qrs_columns(onset, duration), fits.t_columns(onset, qt), fits.p_columns(onset - pr)], axis=2
    )
    found = fits.find_times((model @ mean)[None])
    assert np.allclose(np.ravel(found), (onset, duration, qt, pr), atol=0.0101)


def test_parts_of_a_variance_add_up() -> None:
    import fit_noise as fits

    rng = np.random.default_rng(1)
    own = np.linspace(0.2, 0.6, 9)
    everywhere, limbs, chest = 0.5, 0.4, 0.3
    count = 20_000
    log_level = own * rng.standard_normal((count, 9)) + everywhere * rng.standard_normal((count, 1))
    log_level[:, :3] += limbs * rng.standard_normal((count, 1))
    log_level[:, 3:] += chest * rng.standard_normal((count, 1))
    found_own, found_shared = fits.parts_of_variance(log_level)
    assert np.allclose(found_own, own**2, atol=0.02)
    assert np.allclose(found_shared, np.square([everywhere, limbs, chest]), atol=0.02)


def test_a_measured_difference_moves_the_parameters_by_as_much() -> None:
    import fit_noise as fits

    rng = np.random.default_rng(2)
    made = rng.normal(0.0, 0.5, (4000, 9, 9))
    part = fits.improve(dict(fits.START), made + 0.25, made)
    assert np.allclose(part["wander"][0], np.array(fits.START["wander"][0]) + 0.25)
    assert np.allclose(part["muscle"][0], np.array(fits.START["muscle"][0]) + 0.25)
    assert part["wander_slope"] == fits.START["wander_slope"]
    assert np.allclose(part["muscle_correction"], 0.0)
    same = fits.improve(part, made, made)
    assert same["wander"][2] == pytest.approx(part["wander"][2], abs=0.01)
