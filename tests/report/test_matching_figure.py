from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.functional.unit_matching import Layer, dense_logits, permute_units
from einthoven.report.matching import barrier, layers_of, matching_figure, mean_loss, unit_cosines
from einthoven.report.trials import Trial

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(30, 6))
LAYERS: list[Layer] = [(RNG.normal(size=(8, 6)), RNG.normal(size=8)), (RNG.normal(size=(2, 8)), RNG.normal(size=2))]
LABELS = (dense_logits(LAYERS, INPUTS, lambda x: np.maximum(x, 0.0)) > 0).astype(float)  # all answers are right


def ended(layers: list[Layer], width: str = "8") -> Trial:
    arrays = {"inputs": INPUTS, "labels": LABELS}
    for number, (weight, bias) in enumerate(layers, 1):
        arrays |= {f"weight/{number}": weight, f"bias/{number}": bias}
    return Trial({"model.width": width}, arrays=arrays)


def test_the_loss_is_the_binary_cross_entropy() -> None:
    run = ended(LAYERS)
    (weight, bias), (head, head_bias) = layers_of(run)
    p = 1 / (1 + np.exp(-(np.maximum(INPUTS @ weight.T + bias, 0) @ head.T + head_bias)))
    expected = -(LABELS * np.log(p) + (1 - LABELS) * np.log(1 - p)).mean()
    assert mean_loss(layers_of(run), run) == pytest.approx(expected)


def test_a_barrier_is_the_height_above_the_line_between_the_ends() -> None:
    assert barrier(np.array([1.0, 2.5, 3.0])) == pytest.approx(0.5)
    assert barrier(np.array([1.0, 0.0, 3.0])) == 0.0


def test_two_orders_of_the_same_units_have_a_barrier_only_before_the_matching() -> None:
    shuffled = permute_units(LAYERS, [np.roll(np.arange(8), 3)])
    above, below = matching_figure([ended(LAYERS), ended(shuffled)], title="?").axes
    before, after = (np.asarray(line.get_ydata()) for line in above.get_lines())
    assert barrier(before) > 0.01
    np.testing.assert_allclose(after, mean_loss(LAYERS, ended(LAYERS)), rtol=1e-9)
    assert above.get_title(loc="left").endswith("→ 0.000") and below.get_xlabel()
    np.testing.assert_allclose(unit_cosines(LAYERS, LAYERS), 1.0)


def test_one_start_and_runs_without_layers_are_refused() -> None:
    with pytest.raises(UserError, match="only one run; expected two or more seeds"):
        matching_figure([ended(LAYERS)], title="?")
    with pytest.raises(UserError, match="analysis=dense_layers"):
        matching_figure([Trial({}), Trial({})], title="?")
