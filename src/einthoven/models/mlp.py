"""A multi-layer perceptron: dense layers on the flattened signal."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.models.activations import activation_layer, init_weight
from einthoven.models.blocks import check_depth, check_samples, linear
from einthoven.models.norms import feature_norm


class DenseLayer(nn.Module):
    """One dense layer: linear, norm, activation, dropout. With ``skip``, its input is added to its output."""

    def __init__(
        self, in_features: int, out_features: int, *, activation: str, norm: str, dropout: float, skip: bool
    ) -> None:
        super().__init__()
        self.skip = skip
        self.branches = ("linear",) if skip else ()
        self.linear = nn.Linear(in_features, out_features)
        init_weight(self.linear, activation)
        nn.init.zeros_(self.linear.bias)
        self.norm = feature_norm(norm, out_features)
        self.act = activation_layer(activation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_features]`` to ``[B, out_features]``."""
        out: Tensor = self.dropout(self.act(self.norm(self.linear(x))))
        return x + out if self.skip else out


class MLP(nn.Module):
    """Dense layers on all samples of all channels.

    The network reads a fixed number of samples. A deep one without skip connections shows how gradients vanish
    (Hochreiter 1991; Glorot and Bengio 2010). The derivative of the sigmoid is at most 1/4. So the backward pass
    multiplies the gradient by at most 1/4 in each layer, apart from the weights. Skip connections (He et al. 2016) are
    a path around every layer except the first. The weights of those layers start ``sqrt(depth)`` times smaller, so
    that the sum of all layers keeps its size.

    Stages (direct children): ``layer1``, ``layer2``, and so on, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        Channels of the output of the frontend; number of logits.
    samples
        Length of the windows.
    width, depth
        Features of each hidden layer; number of hidden layers.
    activation, norm
        Names, as in `einthoven.models.activations` and `einthoven.models.norms`.
    dropout
        Dropout probability after each hidden layer.
    skip
        Add the input of a hidden layer to its output, except in the first layer.

    Raises
    ------
    UserError
        If there is no hidden layer.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        samples: int,
        width: int = 256,
        depth: int = 2,
        activation: str = "relu",
        norm: str = "batch",
        dropout: float = 0.5,
        skip: bool = False,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise UserError(f"model.depth={depth}: expected at least 1; without a hidden layer, it is model=logistic.")
        check_depth("depth", depth)
        self.samples = samples
        features = in_channels * samples
        for i in range(depth):
            has_skip = skip and i > 0
            layer = DenseLayer(features, width, activation=activation, norm=norm, dropout=dropout, skip=has_skip)
            if has_skip:
                with torch.no_grad():
                    layer.linear.weight /= math.sqrt(depth)
            self.add_module(f"layer{i + 1}", layer)
            features = width
        self.head = linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, samples]`` to logits ``[B, num_classes]``."""
        check_samples(x, self.samples, "mlp")
        x = x.flatten(1)
        for stage in self.children():
            x = stage(x)
        return x
