"""Weight initialization: functions that draw the matrices of a network before the first step.

A function ``init(network, x)`` redraws the weights of `network` in place, from torch's global generator. `x` is a batch
of training signals, as the network will read them, for functions that depend on data. The matrices are the weights of
linear, convolutional and recurrent layers. Biases become zero. Norms stay unchanged (they are the identity, or zero at
the end of a residual branch).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from einthoven.errors import UserError

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
MOST_GAIN = 1e6
"""Largest gain. The smallest is its inverse. Beyond them, float32 weights of a deep network are 0 or not finite."""


def default(network: nn.Module, x: Tensor) -> None:
    """Keep the weights that the model draws itself."""


def xavier(network: nn.Module, x: Tensor, *, gain: float = 1.0) -> None:
    """Draw normal weights of variance ``gain² · 2 / (inputs + outputs)``.

    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, equation 12.
    This is a compromise: ``1 / inputs`` would keep the variance of the activations, and ``1 / outputs`` that of the
    gradients. With tanh, a gain of 5/3 compensates for its saturation.
    """
    _check_gain(gain)
    _redraw(network, lambda weight: nn.init.xavier_normal_(weight, gain=gain))


def he(network: nn.Module, x: Tensor) -> None:
    """Draw normal weights of variance ``2 / inputs``. ReLU halves the second moment, and this variance doubles it.

    He et al., "Delving deep into rectifiers", 2015, equation 10.
    """
    _redraw(network, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"))


def orthogonal(network: nn.Module, x: Tensor, *, gain: float = 1.0) -> None:
    """Draw orthogonal weights, whose singular values all equal `gain`.

    Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    2014. The weight of a convolution becomes the matrix (out, in * kernel).
    """
    _check_gain(gain)
    _redraw(network, lambda weight: nn.init.orthogonal_(weight, gain=gain))


@torch.no_grad()
def lsuv(network: nn.Module, x: Tensor) -> None:
    """Draw orthogonal weights, and divide those of each layer by the standard deviation of its output for `x`.

    Mishkin & Matas, "All you need is a good init", 2016 (layer-sequential unit variance). A layer is linear, so one
    division is exact. One pass through the network is enough for all layers.
    """
    orthogonal(network, x)
    divided: set[nn.Module] = set()

    def divide(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if layer in divided:
            return output
        divided.add(layer)
        deviation = output.std()
        # After a branch that returns zeros, the output is constant and gives no scale.
        if not deviation > 0:
            return output
        layer.get_parameter("weight").div_(deviation)
        return output / deviation

    training = network.training
    handles = [layer.register_forward_hook(divide) for layer in network.modules() if isinstance(layer, _LAYERS)]
    # In evaluation mode there is no dropout, and the running statistics do not change.
    try:
        network.eval()(x)
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)


@torch.no_grad()
def zero_residual(network: nn.Module, x: Tensor) -> None:
    """Keep the weights of the model, but set the last layer of each residual branch to zero.

    At first, the network consists of its shortcuts only. Goyal et al., "Accurate, large minibatch SGD", 2017, section
    5.1 (zero gain of the last norm of a branch); Zhang, Dauphin, Ma, "Fixup initialization", 2019 (zero last layer
    without a norm).

    Raises
    ------
    UserError
        If the network has no residual branch.
    """
    ends = list(_residual_ends(network))
    if not ends:
        raise UserError("init=zero_residual: this model has no residual branches; choose another init.")
    for end in ends:
        for parameter in end.parameters(recurse=False):
            parameter.zero_()


def _residual_ends(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the last layer with a weight of each residual branch. A block names its branches in ``branches``."""
    for module in network.modules():
        for name in getattr(module, "branches", ()):
            layers = [layer for layer in module.get_submodule(name).modules() if hasattr(layer, "weight")]
            yield layers[-1]


@torch.no_grad()
def pca_patches(network: nn.Module, x: Tensor, *, floor: float = 1e-3) -> None:
    """Keep the weights of the model, but set those of the first convolution to principal components of short windows.

    The windows are as long as the kernel and contain all channels. Each filter is an eigenvector of their covariance,
    divided by the root of its eigenvalue, so that its output has unit variance. The negatives of the eigenvectors
    follow, because a ReLU keeps one side of each. Further filters keep their random weights. Jordan, "94 % on CIFAR-10
    in 3.29 seconds", 2024, section 3.2, after Coates & Ng 2012.

    Parameters
    ----------
    floor
        Added to the eigenvalues, as a share of the largest. So directions that contain only rounding errors do not get
        unit variance.

    Raises
    ------
    UserError
        If the model does not begin with a convolution.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, (*_LAYERS, nn.LSTM))]
    first = layers[0] if layers else None
    if not isinstance(first, nn.Conv1d | nn.Conv2d) or first.in_channels != x.shape[1]:
        raise UserError("init=pca_patches: this model does not begin with a convolution; choose another init.")
    if not 0 < floor <= 1:
        raise UserError(f"init.floor={floor}: expected a number above 0, at most 1.")

    # Windows of all records as rows [windows, C * kernel]
    kernel = first.kernel_size[-1]
    windows = x.unfold(2, kernel, 1).transpose(1, 2).flatten(0, 1).flatten(1).double()

    # Eigenvectors by falling eigenvalue, scaled to unit variance
    values, vectors = torch.linalg.eigh(torch.cov(windows.T))
    values = values.flip(0)
    vectors = vectors.flip(1)
    filters = (vectors / (values + floor * values[0]).sqrt()).T

    filters = torch.cat([filters, -filters])[: len(first.weight)]
    first.weight[: len(filters)] = filters.view(-1, *first.weight.shape[1:]).to(first.weight)


@torch.no_grad()
def _redraw(network: nn.Module, draw: Callable[[Tensor], object]) -> None:
    """Redraw all matrices of a network with `draw`, and set the biases to zero."""
    for module in network.modules():
        if isinstance(module, _LAYERS):
            draw(module.weight)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.LSTM):
            for name, parameter in module.named_parameters():
                if parameter.ndim < 2:
                    parameter.zero_()
                else:
                    # The matrices of the four gates are stacked.
                    for gate in parameter.view(4, -1, parameter.shape[1]):
                        draw(gate)
                if name.startswith("bias_ih"):
                    # With this bias of the forget gate, the state persists at first (Jozefowicz et al. 2015, 3.1).
                    parameter.view(4, -1)[1] = 1.0


def _check_gain(gain: float) -> None:
    if not 1 / MOST_GAIN <= gain <= MOST_GAIN:
        raise UserError(f"init.gain={gain}: expected a number from {1 / MOST_GAIN:g} to {MOST_GAIN:g}.")
