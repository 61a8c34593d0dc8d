"""The order of the hidden units of a network: dense networks that differ only in it compute the same function.

A dense network is a sequence of layers ``(weight, bias)``, from the input to the output: ``weight`` has the shape
(outputs, inputs), ``bias`` (outputs,). The outputs of each layer except the last are hidden units. They pass through
the same activation function, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Layer = tuple[Float, Float]

MOST_SWEEPS = 100
"""Largest number of passes over the hidden layers. Usually a few are enough."""


def match_units(reference: Sequence[Layer], other: Sequence[Layer]) -> list[Int]:
    """Find the order of the hidden units of a network that brings its weights nearest to those of a reference.

    It maximizes the sum of the products of all weights and biases of the two networks, which minimizes their squared
    distance. For one hidden layer, this is a linear assignment problem, and the result is the best order. With more
    hidden layers, the order of each is improved in turn, until none of them changes.

    Parameters
    ----------
    reference, other : sequence of (weight, bias)
        Two networks of the same shape.

    Returns
    -------
    list of ndarray of int
        For each hidden layer: the units of `other` in the order of the units of `reference`.

    Raises
    ------
    ValueError
        If the shapes of the networks differ.

    References
    ----------
    Ainsworth, Hayase and Srinivasa, "Git Re-Basin: merging models modulo permutation symmetries", ICLR 2023, section
    3.2 and algorithm 1 (weight matching).
    """
    from scipy.optimize import linear_sum_assignment

    shapes = [[weight.shape for weight, _ in network] for network in (reference, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the layers of the two networks have different shapes: {shapes[0]} and {shapes[1]}")
    orders = [np.arange(len(bias)) for _, bias in other[:-1]]
    for _ in range(MOST_SWEEPS):
        has_changed = False
        for number in range(len(orders)):
            # Similarity of each unit of the reference to each unit of the other network: of its inputs, with the units
            # before it in their current order, and of its outputs.
            incoming, bias = other[number]
            outgoing, _ = other[number + 1]
            if number > 0:
                incoming = incoming[:, orders[number - 1]]
            if number + 1 < len(orders):
                outgoing = outgoing[orders[number + 1]]
            similarity = reference[number][0] @ incoming.T + np.outer(reference[number][1], bias)
            similarity += reference[number + 1][0].T @ outgoing

            units, order = linear_sum_assignment(similarity, maximize=True)
            gain = similarity[units, order].sum() - similarity[units, orders[number]].sum()
            if gain > 1e-12 * np.abs(similarity).max():
                orders[number] = order
                has_changed = True
        if not has_changed:
            break
    return orders


def permute_units(layers: Sequence[Layer], orders: Sequence[Int]) -> list[Layer]:
    """Put the hidden units of a network into another order. The network computes the same function as before.

    Parameters
    ----------
    layers : sequence of (weight, bias)
    orders : sequence of ndarray of int
        New order of the units of each hidden layer, from `match_units`.
    """
    permuted = []
    for number, (weight, bias) in enumerate(layers):
        if number > 0:
            weight = weight[:, orders[number - 1]]
        if number < len(orders):
            weight = weight[orders[number]]
            bias = bias[orders[number]]
        permuted.append((weight, bias))
    return permuted


def dense_logits(layers: Sequence[Layer], x: NDArray[np.floating], activation: Callable[[Float], Float]) -> Float:
    """Return the outputs (n, K) of a dense network for inputs (n, d). The last layer has no activation."""
    features = np.asarray(x, dtype=np.float64)
    for number, (weight, bias) in enumerate(layers):
        features = features @ weight.T + bias
        if number + 1 < len(layers):
            features = activation(features)
    return features


def interpolate_layers(start: Sequence[Layer], end: Sequence[Layer], share: float) -> list[Layer]:
    """Return the network on the straight line between two networks: `start` at 0, `end` at 1."""
    layers = []
    for (first_weight, first_bias), (last_weight, last_bias) in zip(start, end, strict=True):
        weight = (1 - share) * first_weight + share * last_weight
        bias = (1 - share) * first_bias + share * last_bias
        layers.append((weight, bias))
    return layers
