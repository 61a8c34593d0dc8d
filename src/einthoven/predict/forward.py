"""Windows to probabilities: the forward pass of the network of a bundle, and the mean with its models of ECG features.

The network also gives its features. It may run with dropout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.functional import outputs
from einthoven.functional.features import ecg_features
from einthoven.functional.windows import aggregate_windows, apply_to_windows
from einthoven.predict.bundle import Bundle
from einthoven.predict.network import last_layer

RECORDS_PER_BATCH = 32
"""Records that pass through the network together. More records do not fit into the cache of a CPU."""

WINDOWS_MEASURED_AT_ONCE = 128
"""Windows whose features are measured together, for the same reason."""

Float = NDArray[np.float64]


def predict_windows(bundle: Bundle, signal: NDArray[np.int16]) -> tuple[Float, Float | None]:
    """Predict windows in µV (n, L, T), each as long as a record of the training.

    Returns
    -------
    probabilities : ndarray of float64, shape (n, K)
        Before calibration. With members, the mean over the network and them.
    distance : ndarray of float64, shape (n,), or None
        Distance from the training records. None if the bundle does not contain their features.
    """
    probabilities, distance = predict_with_network(bundle, signal)
    return mean_with(bundle, probabilities, predict_with_members(bundle, signal)), distance


def predict_with_network(bundle: Bundle, signal: NDArray[np.int16]) -> tuple[Float, Float | None]:
    """Predict windows with the network alone. Same parameters and results as `predict_windows`."""
    if bundle.familiarity is None:
        probabilities, _ = _run_network(bundle, signal, None)
        return probabilities, None
    layer = last_layer(bundle.inference_model, len(bundle.classes))
    probabilities, features = _run_network(bundle, signal, layer)
    return probabilities, bundle.familiarity.distance(features)


def predict_with_members(bundle: Bundle, signal: NDArray[np.int16]) -> Float:
    """Predict windows in µV (n, L, T) with the models of ECG features.

    Returns
    -------
    ndarray, shape (n, classes of the mean)
        The sum of their probabilities, each times its weight.
    """
    total = np.zeros((len(signal), bundle.mean_classes))
    if not bundle.members:
        return total
    input_format = bundle.input_format
    for first in range(0, len(signal), WINDOWS_MEASURED_AT_ONCE):
        windows = slice(first, first + WINDOWS_MEASURED_AT_ONCE)
        millivolts = signal[windows].astype(np.float32) * np.float32(1e-3)
        features = ecg_features(millivolts, input_format.fs, input_format.leads)
        for member in bundle.members:
            total[windows] += member.weight * member.trees.predict(features)
    if not np.isfinite(total).all():
        raise UserError("the trees of this bundle answer with values that are not finite; it cannot be used.")
    return total


def mean_with(bundle: Bundle, network_probabilities: Float, of_members: Float) -> Float:
    """Return the mean (n, K) of the probabilities of the network (n, K) and the weighted ones of the members.

    Classes of further groups, such as rhythms, keep the probabilities of the network.
    """
    if not bundle.members:
        return network_probabilities
    main = slice(0, bundle.mean_classes)
    mean = network_probabilities.copy()
    mean[:, main] = bundle.network_weight * network_probabilities[:, main] + of_members
    return mean


def compute_features(bundle: Bundle, signal: NDArray[np.int16]) -> Float:
    """Return the features (n, D) of windows in µV (n, L, T): the mean input of the last layer of the network."""
    _, features = _run_network(bundle, signal, last_layer(bundle.inference_model, len(bundle.classes)))
    return features


@torch.inference_mode()
def _run_network(bundle: Bundle, signal: NDArray[np.int16], layer: nn.Linear | None) -> tuple[Float, Float]:
    """Return uncalibrated probabilities (n, K), and the features (n, D) that a layer reads; without it, D is 0."""
    input_format = bundle.input_format
    activation = outputs.softmax if bundle.single_label else outputs.sigmoid
    device = next(bundle.inference_model.parameters()).device
    probabilities = [np.zeros((0, len(bundle.classes)))]
    features = [np.zeros((0, layer.in_features if layer else 0))]
    with _captured_inputs(layer) as captured:
        for first in range(0, len(signal), RECORDS_PER_BATCH):
            microvolts = torch.from_numpy(signal[first : first + RECORDS_PER_BATCH])
            x = microvolts.to(device, torch.float32).mul_(1e-3)
            logits = apply_to_windows(bundle.inference_model, x, input_format.window, input_format.stride)
            # Device-to-host sync: once per batch.
            by_window = activation(logits.double().cpu(), bundle.temperature)
            batch_probabilities = aggregate_windows(by_window, input_format.aggregate).numpy()
            if not np.isfinite(batch_probabilities).all():
                raise UserError(
                    "the network of this bundle answers with values that are not finite; it cannot be used."
                )
            probabilities.append(batch_probabilities)
            if layer is not None:
                by_position = captured.pop().reshape(len(x), -1, layer.in_features)
                features.append(by_position.mean(dim=1).double().cpu().numpy())
    return np.concatenate(probabilities), np.concatenate(features)


@contextmanager
def _captured_inputs(layer: nn.Linear | None) -> Iterator[list[Tensor]]:
    """Collect the inputs of a layer while the block runs."""
    captured: list[Tensor] = []
    if layer is None:
        yield captured
        return
    handle = layer.register_forward_pre_hook(lambda _, arguments: captured.append(arguments[0]))
    try:
        yield captured
    finally:
        handle.remove()


def dropout_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a model that drop something."""
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
    return [module for module in model.modules() if isinstance(module, kinds) and module.p > 0]


@contextmanager
def dropout_on(model: nn.Module, seed: int) -> Iterator[None]:
    """Turn on the dropout of a model in evaluation mode. The masks follow from the seed."""
    layers = dropout_layers(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()
