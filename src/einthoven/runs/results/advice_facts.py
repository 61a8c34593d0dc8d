"""Facts about optimizer, augmentation and first biases of a run that its advice is based on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Adagrad, Adam, AdamW, Optimizer, RMSprop

from einthoven.contracts import Augment
from einthoven.data.store.splits import Split
from einthoven.models.frontend import Classifier
from einthoven.predict.network import last_layer

AUGMENTED_RECORDS = 64
"""Training records that an augmentation is measured on."""


def decay_per_rate(optimizer: Optimizer) -> float:
    """Return the largest weight decay that shrinks weights by the learning rate times its value in each step.

    This is so for SGD and for decoupled weight decay. Coupled weight decay of Adam and similar optimizers is divided by
    the size of the gradient, and is left out.
    """
    largest = 0.0
    for group in optimizer.param_groups:
        divides_by_gradient = isinstance(optimizer, (Adam, Adagrad, RMSprop))
        is_decoupled = group.get("decoupled_weight_decay", isinstance(optimizer, AdamW))
        if is_decoupled or not divides_by_gradient:
            largest = max(largest, float(group.get("weight_decay", 0.0)))
    return largest


@torch.no_grad()
def measure_augmentation(augment: Augment, train: Split, window: int, seed: int) -> dict[str, Any]:
    """Return what an augmentation does to some training records; nothing if all records are constant.

    ``hidden`` is the share of the values, zeros left out, that it sets to zero. ``power`` is the median over the
    records of their variance after it, divided by that before it.
    """
    rows = torch.arange(min(AUGMENTED_RECORDS, len(train)), device=train.labels.device)
    clean = train.take(rows, window)
    labels = train.labels[rows]
    generator = torch.Generator(clean.device).manual_seed(seed)
    augmented, _ = augment(clean.clone(), labels.clone(), generator)

    variance = clean.var(dim=2).mean(dim=1)
    is_varying = variance > 0
    if not is_varying.any():
        return {}
    is_signal = clean != 0
    # A crop may change the length. Its zeros are counted among all values.
    if augmented.shape == clean.shape:
        hidden = float((augmented[is_signal] == 0).float().mean())
    else:
        hidden = float((augmented == 0).float().mean())
    power = augmented.var(dim=2).mean(dim=1)[is_varying] / variance[is_varying]
    # Device-to-host sync: once per run.
    return {"hidden": hidden, "power": float(power.median())}


@torch.no_grad()
def measure_biases(model: Classifier, task: Any, y: NDArray[np.float64]) -> float | None:
    """Return how far the biases of the last layer are from the shares of the classes, compared with biases of 0.

    Parameters
    ----------
    y : array of float64, shape (n, K)
        Labels of the classes of the training records.

    Returns
    -------
    float or None
        Mean negative log-likelihood of the labels with these biases alone, minus that with biases of 0. None if the
        last layer has no biases.
    """
    layer = last_layer(model, y.shape[1])
    if layer is None or layer.bias is None:
        return None
    shares = y.mean(axis=0, keepdims=True)

    def loss(biases: Tensor) -> float:
        # Device-to-host sync: once per run.
        return float(task.negative_log_likelihood(shares, task.activation(biases[None]).double().cpu().numpy()))

    return loss(layer.bias) - loss(torch.zeros_like(layer.bias))
