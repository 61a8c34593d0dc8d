"""Cross-fitting: no record is judged by a fit that has seen its fold."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.evaluation.calibration import Temperature, Vector
from einthoven.evaluation.conformal import missed_share, risk_control_threshold
from einthoven.evaluation.operating_points import Rule

sys.path.append(str(Path(__file__).parents[2] / "bench"))
from cross_fit import cross_fit, group_thresholds

CLASSES = ("a", "b")
MAKE = partial(Vector, CLASSES, False)
RULES = (Rule("sensitivity", 0.9), Rule("youden"))


def made_up(n: int = 900, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, overconfident probabilities, and nine folds."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (n, 2))
    y = (rng.uniform(size=z.shape) < 1 / (1 + np.exp(-z))).astype(float)
    return y, 1 / (1 + np.exp(-2.5 * z)), np.arange(n) % 9 + 1


def test_the_labels_of_a_fold_do_not_change_its_own_results() -> None:
    y, p, folds = made_up()
    before = cross_fit(MAKE, y, p, folds, RULES, (0.1,))
    changed = np.where((folds == 4)[:, None], 1 - y, y)
    after = cross_fit(MAKE, changed, p, folds, RULES, (0.1,))
    own, others = folds == 4, folds != 4
    assert np.array_equal(before.p[own], after.p[own]) and not np.allclose(before.p[others], after.p[others])
    for rule in RULES:
        assert np.array_equal(before.decisions[rule][own], after.decisions[rule][own])
    assert np.array_equal(before.in_set[0.1][own], after.in_set[0.1][own])
    assert np.array_equal(before.in_own_set[0.1][own], after.in_own_set[0.1][own])


def test_a_fold_is_calibrated_by_the_fit_on_the_others() -> None:
    y, p, folds = made_up()
    found = cross_fit(partial(Temperature, CLASSES, False), y, p, folds)
    for fold in (1, 9):
        own = folds == fold
        expected = Temperature(CLASSES, False).fit(y[~own], p[~own]).transform(p[own])
        np.testing.assert_allclose(found.p[own], expected)
    assert found.decisions == {} and found.in_set == {}


def test_rates_and_sets_keep_their_promise_on_average() -> None:
    y, p, folds = made_up(4500)
    found = cross_fit(MAKE, y, p, folds, RULES, (0.1, 0.2))
    sensitivity = (found.decisions[RULES[0]] & (y > 0)).sum(axis=0) / y.sum(axis=0)
    assert sensitivity == pytest.approx([0.9, 0.9], abs=0.02)
    for alpha, in_set in found.in_set.items():
        # A threshold of 0.5 separates the classes in the set from the others.
        missed = missed_share(y, np.where(in_set, 1.0, 0.0), 0.5).mean()
        assert missed == pytest.approx(alpha, abs=0.02)
        covered = (found.in_own_set[alpha] & (y > 0)).sum(axis=0) / y.sum(axis=0)
        assert covered == pytest.approx([1 - alpha, 1 - alpha], abs=0.02)


def test_one_fold_is_refused() -> None:
    y, p, folds = made_up(90)
    with pytest.raises(UserError, match="1 fold found; cross-fitting needs two folds or more"):
        cross_fit(MAKE, y, p, np.ones_like(folds))


def test_each_group_of_classes_has_sets_of_its_own() -> None:
    y, p, folds = made_up()
    both = cross_fit(MAKE, y, p, folds, alphas=(0.1,), groups=(slice(0, 1), slice(1, 2)))
    for k, name in enumerate(CLASSES):
        one = cross_fit(partial(Vector, (name,), False), y[:, [k]], p[:, [k]], folds, alphas=(0.1,))
        assert np.array_equal(both.in_set[0.1][:, [k]], one.in_set[0.1])


def test_each_group_of_classes_keeps_the_promise_by_its_own_threshold() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(-1.0, 1.5, (6000, 4)) + 0.7 * rng.normal(size=(6000, 1))
    y = rng.uniform(size=z.shape) < 1 / (1 + np.exp(-z))
    p = (1 / (1 + np.exp(-0.5 * z + rng.normal(0, 0.7, z.shape)))) ** 3
    groups = (slice(0, 1), slice(1, 4))
    limits = group_thresholds(y[:2000], p[:2000], 0.1, groups)
    assert limits[1] == limits[2] == limits[3] != limits[0]
    for columns in groups:
        assert limits[columns.start] == risk_control_threshold(y[:2000, columns], p[:2000, columns], 0.1)
        missed = missed_share(y[2000:, columns], p[2000:, columns], limits[columns.start])
        assert missed.mean() == pytest.approx(0.1, abs=0.04)
    assert (group_thresholds(y, p, 0.1) == risk_control_threshold(y, p, 0.1)).all()
