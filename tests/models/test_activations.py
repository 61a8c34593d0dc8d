import math

import pytest
import torch
from scipy import special
from torch import nn

from einthoven.errors import UserError
from einthoven.models.activations import ACTIVATIONS, activation_layer, init_weight

CLOSED_FORM = {
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "gelu": lambda x: x * special.ndtr(x),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
}


def test_every_activation_has_its_closed_form_here():
    assert set(CLOSED_FORM) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_are_those_of_the_closed_form(name):
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    expected = torch.tensor([CLOSED_FORM[name](v) for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(activation_layer(name)(x.clone()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_finite_differences(name):
    layer = activation_layer(name)
    x = torch.linspace(-3, 3, 12, dtype=torch.float64, requires_grad=True)  # no kink within a difference of zero
    assert torch.autograd.gradcheck(lambda x: layer(x.clone()), (x,))  # a copy: ReLU writes into its input
    assert torch.autograd.gradgradcheck(lambda x: layer(x.clone()), (x,))


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="activation=swish: unknown; there are elu, gelu"):
        activation_layer("swish")


@pytest.mark.parametrize(("name", "gain"), [("relu", 2**0.5), ("gelu", 2**0.5), ("tanh", 5 / 3), (None, 1.0)])
def test_weights_start_with_the_gain_of_their_activation(name, gain):
    torch.manual_seed(0)
    layer = nn.Linear(400, 500)
    init_weight(layer, name)
    assert layer.weight.std().item() == pytest.approx(gain / 20, rel=0.01)
