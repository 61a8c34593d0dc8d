"""Histograms of weights, gradients, activations and probabilities, for figures of their change over the epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LOWEST = -8
HIGHEST = 3
"""The histograms of magnitudes reach from one of these powers of ten to the other."""

BINS_PER_DECADE = 5
PROBABILITY_BINS = 50

VALUES = 50_000
"""Largest number of values that are counted. Of more values, some are taken at even distances."""


def magnitude_edges() -> NDArray[np.float64]:
    """Return the limits of the bins of a histogram of magnitudes, on a logarithmic scale."""
    return np.logspace(LOWEST, HIGHEST, (HIGHEST - LOWEST) * BINS_PER_DECADE + 1)


def magnitude_histogram(tensors: Iterable[Tensor]) -> NDArray[np.int64]:
    """Count the magnitudes of all values of some tensors.

    Parameters
    ----------
    tensors : iterable of Tensor

    Returns
    -------
    array of int64, shape (bins,)
        With the bins of `magnitude_edges`. Smaller values, such as zeros, are in the first bin, and larger ones in the
        last bin. Values that are not finite are left out.
    """
    all_tensors = [tensor.detach().reshape(-1) for tensor in tensors]
    stride = -(-sum(len(values) for values in all_tensors) // VALUES)
    taken = [values[:: max(stride, 1)].float() for values in all_tensors]
    # Device-to-host sync: once per epoch.
    magnitudes = torch.cat(taken).abs().cpu().numpy() if taken else np.zeros(0, np.float32)
    finite = magnitudes[np.isfinite(magnitudes)]
    powers = np.log10(np.maximum(finite, 10.0**LOWEST)).clip(LOWEST, HIGHEST)
    counts, _ = np.histogram(powers, (HIGHEST - LOWEST) * BINS_PER_DECADE, (LOWEST, HIGHEST))
    return counts


def probability_histogram(p: NDArray[np.floating[Any]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count probabilities in bins of equal width from 0 to 1.

    Returns
    -------
    counts : array of int64, shape (bins,)
    edges : array of float64, shape (bins + 1,)
    """
    return np.histogram(p, PROBABILITY_BINS, (0.0, 1.0))


@contextmanager
def stage_outputs(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the outputs of the stages of a network in the forward passes inside this block.

    An output that is not a single tensor is left out, for example that of a recurrent layer.
    """
    outputs: list[Tensor] = []

    def hook(stage: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor):
            outputs.append(output.detach())

    handles = [stage.register_forward_hook(hook) for stage in network.children()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
