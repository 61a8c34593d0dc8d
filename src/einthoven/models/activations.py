"""Activation functions by name: the `activation` option of the networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from einthoven.errors import UserError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # In place: the derivative follows from the output, so the input need not be stored.
    "relu": lambda: nn.ReLU(inplace=True),
    # Maas et al. 2013: slope 0.01 below zero
    "leaky_relu": nn.LeakyReLU,
    # Hendrycks and Gimpel 2016: x times the standard normal distribution function of x
    "gelu": nn.GELU,
    # Elfwing et al. 2018: x times its sigmoid
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    # Clevert et al. 2016: exp(x) - 1 below zero
    "elu": nn.ELU,
}


def activation_layer(name: str) -> nn.Module:
    """Build the activation function of a name.

    Raises
    ------
    UserError
        If the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"model: activation={name}: unknown; there are {', '.join(sorted(ACTIVATIONS))}.")
    return ACTIVATIONS[name]()


def init_weight(layer: nn.Linear | nn.Conv2d, name: str | None) -> None:
    """Draw weights that keep the variance of the signal in the layer and in the activation `name` after it.

    The weights are normal, with standard deviation ``gain / sqrt(inputs)`` (He et al. 2015, equation 10). The gain is
    ``sqrt(2)`` for ReLU and similar activations, 5/3 for tanh, 1 for the sigmoid and without an activation (None).
    """
    if name is None:
        nonlinearity = "linear"
    elif name in ("tanh", "sigmoid"):
        nonlinearity = name
    else:
        nonlinearity = "relu"
    nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity)  # type: ignore[arg-type]
