"""Conformal risk control: the promise itself, over many splits, and against a search by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.errors import UserError
from einthoven.evaluation.conformal import (
    missed_share,
    risk_control_threshold,
    statement_sets,
)


def records(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of four classes, and probabilities that are far from calibrated: the promise does not ask for that."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1.0, 1.5, (n, 4)) + 0.7 * rng.normal(size=(n, 1))
    y = rng.uniform(size=z.shape) < 1 / (1 + np.exp(-z))
    return y, (1 / (1 + np.exp(-0.5 * z + rng.normal(0, 0.7, z.shape)))) ** 3


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_the_share_of_missed_statements_is_at_its_level_over_200_splits(alpha: float) -> None:
    y, p = records(1200, 0)
    rng, risks = np.random.default_rng(1), []
    for _ in range(200):
        order = rng.permutation(len(y))
        fit, new = order[:400], order[400:]
        risks.append(missed_share(y[new], p[new], risk_control_threshold(y[fit], p[fit], alpha)).mean())
    mean, error = np.mean(risks), np.std(risks) / np.sqrt(200)
    assert mean <= alpha + 3 * error
    assert mean >= alpha - 0.015, "a threshold that misses far less than allowed is of no use"


@given(st.integers(0, 10_000), st.integers(5, 60), st.sampled_from([0.1, 0.25, 0.5]), st.booleans())
def test_the_threshold_is_the_largest_that_keeps_the_bound(seed: int, n: int, alpha: float, tied: bool) -> None:
    y, p = records(n, seed)
    p = np.round(p, 1) if tied else p
    if not y.any():
        return
    found = risk_control_threshold(y, p, alpha)
    labelled = int(y.any(axis=1).sum())

    def bound(t: float) -> float:
        return labelled / (labelled + 1) * missed_share(y, p, t).mean() + 1 / (labelled + 1)

    candidates = np.unique(np.concatenate([[0.0], p[y], p[y] + 1e-9]))
    allowed = [t for t in candidates if bound(t) <= alpha + 1e-12]
    assert found == (max(allowed) if allowed else 0.0)


def test_few_records_promise_nothing_and_give_every_class() -> None:
    y, p = records(5, 0)
    assert risk_control_threshold(y, p, 0.05) == 0.0
    assert statement_sets(p[:1], 0.0, ("A", "B", "C", "D")) == [("A", "B", "C", "D")]


def test_records_without_a_statement_do_not_make_the_promise_cheaper() -> None:
    y, p = records(300, 2)
    none = np.zeros((500, 4), dtype=bool)
    padded = risk_control_threshold(np.concatenate([y, none]), np.concatenate([p, np.full((500, 4), 0.01)]), 0.1)
    assert padded == risk_control_threshold(y, p, 0.1)
    assert len(missed_share(y, p, 0.5)) == y.any(axis=1).sum()


def test_an_alpha_out_of_range_is_refused() -> None:
    y, p = records(10, 0)
    with pytest.raises(UserError, match=r"alpha=1.5: expected"):
        risk_control_threshold(y, p, 1.5)
