from __future__ import annotations

import itertools

import numpy as np
import pytest

from einthoven.evaluation.option_importance import option_importance

GRID = [{"a": str(a), "b": b} for a, b in itertools.product((0.1, 1, 10), ("x", "y"))]


def test_shares_of_a_full_grid_are_those_of_an_analysis_of_variance() -> None:
    """An additive table, its sums of squares by hand: of a 2·(4 + 1 + 1)/3, of b 1, with the same number of each."""
    values = [{"0.1": 0.0, "1": 3.0, "10": 6.0}[each["a"]] + 2.0 * (each["b"] == "y") for each in GRID]
    found = option_importance(GRID, values)
    assert list(found) == ["a", "b"]
    assert found == pytest.approx({"a": 6 / 7, "b": 1 / 7})


def test_what_only_a_combination_does_is_the_share_of_no_option() -> None:
    options = [{"a": a, "b": b} for a, b in itertools.product("01", "xy")]
    found = option_importance(options, [0.0, 1.0, 1.0, 0.0])
    assert found == pytest.approx({"a": 0.0, "b": 0.0}, abs=1e-12)


def test_seeds_are_averaged_first_and_names_of_levels_do_not_matter() -> None:
    values = np.random.default_rng(0).normal(size=6)
    noise = np.array([0.5, -0.5])[:, None]
    twice = option_importance([*GRID, *GRID], (values + noise).ravel().tolist())
    renamed = [{"a": each["a"], "b": {"x": "z", "y": "w"}[each["b"]]} for each in GRID]
    assert option_importance(renamed, values.tolist()) == pytest.approx(twice, rel=1e-9)


def test_random_configurations_give_the_shares_of_a_linear_function_about() -> None:
    """Var(2u + v) of independent uniform u and v is in four and one parts; w does nothing."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(150, 3))
    options = [{"u": str(u), "v": str(v), "w": str(w)} for u, v, w in x]
    found = option_importance(options, (2 * x[:, 0] + x[:, 1]).tolist())
    assert found == pytest.approx({"u": 0.8, "v": 0.2, "w": 0.0}, abs=0.08)


def test_equal_runs_have_nothing_to_explain() -> None:
    assert option_importance(GRID, [0.7] * 6) == {"a": 0.0, "b": 0.0}
