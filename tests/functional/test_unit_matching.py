from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest

from einthoven.functional.unit_matching import Layer, dense_logits, interpolate_layers, match_units, permute_units


def network(*widths: int, seed: int) -> list[Layer]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(outputs, inputs)), rng.normal(size=outputs)) for inputs, outputs in pairwise(widths)]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


def test_units_that_were_shuffled_are_found_again_and_the_function_stays_the_same() -> None:
    rng = np.random.default_rng(0)
    layers = network(6, 12, 9, 3, seed=1)
    shuffled = permute_units(layers, [rng.permutation(12), rng.permutation(9)])
    x = rng.normal(size=(20, 6))
    np.testing.assert_allclose(dense_logits(shuffled, x, relu), dense_logits(layers, x, relu), atol=1e-12)

    # Small differences, as of two trainings that found the same units.
    noisy = [(weight + 0.01 * rng.normal(size=weight.shape), bias) for weight, bias in shuffled]
    matched = permute_units(noisy, match_units(layers, noisy))
    for (weight, bias), (found_weight, found_bias) in zip(layers, matched, strict=True):
        np.testing.assert_allclose(found_weight, weight, atol=0.1)
        np.testing.assert_array_equal(found_bias, bias)


def test_with_one_hidden_layer_no_order_is_nearer() -> None:
    first, second = network(3, 5, 2, seed=2), network(3, 5, 2, seed=3)

    def distance(order: list[int]) -> float:
        other = permute_units(second, [np.array(order)])
        pairs = zip(first, other, strict=True)
        # The bias of the outputs has no order.
        return sum(float(((a - b) ** 2).sum()) for (w, c), (v, d) in pairs for a, b in ((w, v), (c, d)))

    (found,) = match_units(first, second)
    assert distance(found.tolist()) == pytest.approx(min(distance(list(order)) for order in permutations(range(5))))


def test_the_line_begins_and_ends_at_the_networks() -> None:
    first, second = network(3, 4, 2, seed=4), network(3, 4, 2, seed=5)
    for share, expected in ((0.0, first), (1.0, second)):
        for (weight, bias), (found_weight, found_bias) in zip(
            expected, interpolate_layers(first, second, share), strict=True
        ):
            np.testing.assert_array_equal(found_weight, weight)
            np.testing.assert_array_equal(found_bias, bias)
    (middle, _), *_ = interpolate_layers(first, second, 0.25)
    np.testing.assert_allclose(middle, 0.75 * first[0][0] + 0.25 * second[0][0])


def test_networks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        match_units(network(3, 4, 2, seed=0), network(3, 5, 2, seed=0))
