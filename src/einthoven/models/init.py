"""Weight initialization: how a network's matrices are drawn before the first step.

Each is a function ``init(network, x)`` that draws the weights of `network` anew, in place, from torch's global
generator; `x` is a batch of training signals as the network will see them, for those that look at data. The matrices
are the weights of linear and convolutional layers, and of recurrent ones as matrices between states; biases become
zero, norms stay as they are (at identity, or silent at the end of a residual branch).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from einthoven.errors import UserError

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
MOST_GAIN = 1e6  # and one over it at least: beyond, the weights of a deep network, in float32, are all 0 or not finite


def default(network: nn.Module, x: Tensor) -> None:
    """Leave the weights as the model itself draws them."""


def xavier(network: nn.Module, x: Tensor, *, gain: float = 1.0) -> None:
    """Normal weights of variance ``gain² · 2 / (inputs + outputs)``.

    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010, equation 12:
    between what keeps the variance of the activations forwards and that of the gradients backwards. With tanh, a gain
    of 5/3 makes up for its saturation.
    """
    _check_gain(gain)
    _redraw(network, lambda weight: nn.init.xavier_normal_(weight, gain=gain))


def he(network: nn.Module, x: Tensor) -> None:
    """Normal weights of variance ``2 / inputs``: ReLU halves the second moment, this doubles it.

    He et al., "Delving deep into rectifiers", 2015, equation 10.
    """
    _redraw(network, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"))


def orthogonal(network: nn.Module, x: Tensor, *, gain: float = 1.0) -> None:
    """Orthogonal weights, all singular values equal to `gain`.

    Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    2014. A convolution's weight is seen as the matrix (out, in * kernel).
    """
    _check_gain(gain)
    _redraw(network, lambda weight: nn.init.orthogonal_(weight, gain=gain))


@torch.no_grad()
def lsuv(network: nn.Module, x: Tensor) -> None:
    """Orthogonal weights, each layer then divided by the standard deviation of what it gives for `x`.

    Mishkin & Matas, "All you need is a good init", 2016 (layer-sequential unit variance). A layer is linear, so one
    division is exact, and one pass through the network, in order, serves all of them.
    """
    orthogonal(network, x)
    seen: set[nn.Module] = set()

    def divide(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if layer in seen:
            return output
        seen.add(layer)
        deviation = output.std()
        if not deviation > 0:  # a layer behind a silent branch sees nothing to be measured by
            return output
        layer.get_parameter("weight").div_(deviation)
        return output / deviation

    training = network.training
    handles = [layer.register_forward_hook(divide) for layer in network.modules() if isinstance(layer, _LAYERS)]
    try:
        network.eval()(x)  # without dropout, and without a trace of this batch in running statistics
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)


@torch.no_grad()
def zero_residual(network: nn.Module, x: Tensor) -> None:
    """Weights as the model draws them, but each residual branch ends in zeros: at first the network is its shortcuts.

    Goyal et al., "Accurate, large minibatch SGD", 2017, section 5.1 (zero gain of a branch's last norm); Zhang,
    Dauphin, Ma, "Fixup initialization", 2019 (zero last layer where there is no norm).

    Raises
    ------
    UserError
        If the network has no residual branch.
    """
    ends = list(residual_ends(network))
    if not ends:
        raise UserError("init=zero_residual: this model has no residual branches; choose another init.")
    for end in ends:
        for parameter in end.parameters(recurse=False):
            parameter.zero_()


def residual_ends(network: nn.Module) -> Iterator[nn.Module]:
    """The last layer with a weight of every residual branch; a block names its branches in ``branches``."""
    for module in network.modules():
        for name in getattr(module, "branches", ()):
            layers = [layer for layer in module.get_submodule(name).modules() if hasattr(layer, "weight")]
            yield layers[-1]


@torch.no_grad()
def pca_patches(network: nn.Module, x: Tensor, *, floor: float = 1e-3) -> None:
    """Weights as the model draws them, but the first convolution's are the principal components of short windows.

    The windows are as long as its kernel, over all channels; each filter is an eigenvector of their covariance, divided
    by the root of its eigenvalue, so that its output has unit variance; after all eigenvectors, their negatives
    (a ReLU keeps one side of each). Filters beyond those keep their random weights. Jordan, "94 % on CIFAR-10 in
    3.29 seconds", 2024, section 3.2, after Coates & Ng 2012.

    Parameters
    ----------
    floor
        Added to the eigenvalues, relative to the largest: directions of rounding are not blown up to unit variance.

    Raises
    ------
    UserError
        If the model does not begin with a convolution.
    """
    first = next((layer for layer in network.modules() if isinstance(layer, (*_LAYERS, nn.LSTM))), None)
    if not isinstance(first, nn.Conv1d | nn.Conv2d) or first.in_channels != x.shape[1]:
        raise UserError("init=pca_patches: this model does not begin with a convolution; choose another init.")
    if not 0 < floor <= 1:
        raise UserError(f"init.floor={floor}: expected a number above 0, at most 1.")
    kernel = first.kernel_size[-1]
    windows = x.unfold(2, kernel, 1).transpose(1, 2).flatten(0, 1).flatten(1).double()  # [windows, C * kernel]
    values, vectors = torch.linalg.eigh(torch.cov(windows.T))
    values, vectors = values.flip(0), vectors.flip(1)
    filters = (vectors / (values + floor * values[0]).sqrt()).T
    filters = torch.cat([filters, -filters])[: len(first.weight)]
    first.weight[: len(filters)] = filters.view(-1, *first.weight.shape[1:]).to(first.weight)


@torch.no_grad()
def _redraw(network: nn.Module, draw: Callable[[Tensor], object]) -> None:
    for module in network.modules():
        if isinstance(module, _LAYERS):
            draw(module.weight)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.LSTM):
            for name, parameter in module.named_parameters():
                if parameter.ndim < 2:
                    parameter.zero_()
                else:  # four gates, stacked: each is a matrix of its own
                    for gate in parameter.view(4, -1, parameter.shape[1]):
                        draw(gate)
                if name.startswith("bias_ih"):
                    parameter.view(4, -1)[1] = 1.0  # remember at first: Jozefowicz et al. 2015, section 3.1


def _check_gain(gain: float) -> None:
    if not 1 / MOST_GAIN <= gain <= MOST_GAIN:
        raise UserError(f"init.gain={gain}: expected a number from {1 / MOST_GAIN:g} to {MOST_GAIN:g}.")
