"""Bayes' rule against counted populations."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.errors import UserError
from einthoven.functional.bayes import posterior, predictive_values, succession

probability = st.floats(0.001, 0.999)


def test_the_posterior_is_likelihood_times_prior_on_a_discrete_toy() -> None:
    """Three urns with 1, 2 and 3 red balls of 4, chosen with probability 1/2, 1/3, 1/6; drawn: red, red, white."""
    prior = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)]
    likelihood = [Fraction(k, 4) ** 2 * Fraction(4 - k, 4) for k in (1, 2, 3)]
    joint = [p * q for p, q in zip(prior, likelihood, strict=True)]
    expected = [float(j / sum(joint)) for j in joint]
    red, white = np.log([0.25, 0.5, 0.75]), np.log([0.75, 0.5, 0.25])
    found = posterior([float(p) for p in prior], red + red + white)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    in_turn = posterior(posterior(posterior([float(p) for p in prior], red), red), white)  # today's posterior is
    np.testing.assert_allclose(in_turn, expected, rtol=1e-14)  # tomorrow's prior


def test_the_posterior_survives_likelihoods_below_the_smallest_float() -> None:
    np.testing.assert_allclose(posterior([0.5, 0.5], [-5000.0, -5001.0]), [1 / (1 + np.exp(-1)), 1 / (1 + np.e)])
    np.testing.assert_array_equal(posterior([0.0, 1.0], [0.0, -1e4]), [0.0, 1.0])


def test_predictive_values_are_those_of_a_counted_population() -> None:
    """Of 1,000 persons 10 are ill; the test finds 9 of them, and errs on 99 of the 990 others."""
    ppv, npv = predictive_values(0.9, 0.9, 0.01)
    assert ppv == pytest.approx(9 / (9 + 99), rel=1e-14)
    assert npv == pytest.approx(891 / (891 + 1), rel=1e-14)


@given(probability, probability, probability)
def test_predictive_values_are_the_posterior(sensitivity: float, specificity: float, prevalence: float) -> None:
    ppv, npv = predictive_values(sensitivity, specificity, prevalence)
    prior = [1 - prevalence, prevalence]
    assert ppv == pytest.approx(posterior(prior, np.log([1 - specificity, sensitivity]))[1], rel=1e-9)
    assert npv == pytest.approx(posterior(prior, np.log([specificity, 1 - sensitivity]))[0], rel=1e-9)


def test_a_test_that_never_answers_positive_has_no_predictive_value() -> None:
    ppv, npv = predictive_values(0.0, 1.0, [0.2, 0.4])
    assert np.isnan(ppv).all()
    np.testing.assert_allclose(npv, [0.8, 0.6])


def test_a_percentage_is_refused() -> None:
    with pytest.raises(UserError, match=r"prevalence=20.0"):
        predictive_values(0.9, 0.9, 20)


def test_succession_keeps_the_order_and_sums_to_one() -> None:
    found = succession([0.0, 0.25, 0.75], 20, 3)
    assert found[0] == pytest.approx(1 / 23) and found.sum() == pytest.approx(1.0)
    assert succession(1.0, 10) == pytest.approx(11 / 12)  # the sun, risen ten times
