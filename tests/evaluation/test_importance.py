from __future__ import annotations

import numpy as np
import pytest

from einthoven.evaluation.importance import permutation_importance


def test_a_feature_without_weight_loses_nothing_and_a_larger_weight_loses_more() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(4000, 3)), np.array([[2.0], [1.0], [0.0]])
    y = x @ weights

    def score(truth: np.ndarray, found: np.ndarray) -> float:  # type: ignore[type-arg]
        return -float(np.square(truth - found).mean())

    lost = permutation_importance(lambda table: table @ weights, x, y, score, seed=0)
    # permuting a column replaces it by an independent one of the same variance: E (w (x - x'))² = 2 w² var x
    assert lost == pytest.approx([8.0, 2.0, 0.0], rel=0.1, abs=1e-12)
