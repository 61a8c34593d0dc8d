"""Activation functions by their names: the `activation` option of every network."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from einthoven.errors import UserError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),  # its derivative follows from its output, so the input need not be kept
    "leaky_relu": nn.LeakyReLU,  # Maas et al. 2013: slope .01 below zero
    "gelu": nn.GELU,  # Hendrycks and Gimpel 2016: x times the standard normal distribution function of x
    "silu": nn.SiLU,  # Elfwing et al. 2018: x times its sigmoid
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,  # Clevert et al. 2016: exp(x) - 1 below zero
}


def activation_layer(name: str) -> nn.Module:
    """Build the activation function of this name.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"model: activation={name}: unknown; there are {', '.join(sorted(ACTIVATIONS))}.")
    return ACTIVATIONS[name]()


def init_weight(layer: nn.Linear | nn.Conv2d, name: str | None) -> None:
    """Draw weights that keep the variance of the signal through the layer and the activation after it.

    Normal, of standard deviation ``gain / sqrt(inputs)`` (He et al. 2015, equation 10): gain ``sqrt(2)`` for ReLU and
    those that resemble it, 5/3 for tanh, 1 for the sigmoid and where no activation follows (`name` None).
    """
    nonlinearity = "linear" if name is None else name if name in ("tanh", "sigmoid") else "relu"
    nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity)  # type: ignore[arg-type]
