"""The laws of the models that keep a state: LSTM and S4D."""

import math

import pytest
import torch

from einthoven.models.lstm import Recurrence
from einthoven.models.s4d import S4D, DiagonalStateSpace


def lstm_by_hand(x, w_in, w_state, b_in, b_state):
    """States of one LSTM layer, one sample after the other: gates input, forget, cell, output."""
    h = c = torch.zeros(x.shape[0], w_state.shape[1], dtype=x.dtype)
    states = []
    for sample in x.unbind(dim=2):
        i, f, g, o = (sample @ w_in.T + b_in + h @ w_state.T + b_state).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states, dim=2)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_each_direction_is_pooled_at_its_own_end(bidirectional):
    torch.manual_seed(0)
    layer = Recurrence(3, 5, 1, bidirectional=bidirectional).double()
    x = torch.randn(2, 3, 17, dtype=torch.float64)
    weights = list(layer.lstm.parameters())
    forward = lstm_by_hand(x, *weights[:4])
    states, last = [forward], [forward[:, :, -1]]
    if bidirectional:
        backward = lstm_by_hand(x.flip(2), *weights[4:])
        states, last = [forward, backward.flip(2)], [*last, backward[:, :, -1]]
    over_time = torch.cat(states, dim=1)
    expected = torch.cat([over_time.mean(dim=2), over_time.amax(dim=2), *last], dim=1)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def s4d_by_hand(layer, u, direction):
    """Outputs of one direction from its recurrence in complex numbers, one sample after the other."""
    shape = layer.shape
    step = layer.log_step.exp().view(*shape[:2], 1)[direction]
    a = torch.complex(-layer.log_decay.exp(), layer.frequency).view(shape)[direction]
    c = torch.complex(*layer.readout).view(shape)[direction]
    decay, gain = (step * a).exp(), ((step * a).exp() - 1) / a
    x = torch.zeros(u.shape[0], *a.shape, dtype=torch.complex128)
    out = []
    for sample in u.unbind(dim=2):
        x = decay * x + gain * sample[..., None]
        out.append(2 * (c * x).sum(dim=2).real)
    return torch.stack(out, dim=2)


@pytest.mark.parametrize("samples", [1, 2, 37, 100])
def test_the_fft_form_is_the_recurrence(samples):
    torch.manual_seed(0)
    layer = DiagonalStateSpace(5, 3).double()
    layer.log_decay.data += torch.randn_like(layer.log_decay)
    layer.frequency.data += torch.randn_like(layer.frequency)
    u = torch.randn(2, 5, samples, dtype=torch.float64)
    expected = s4d_by_hand(layer, u, 0) + s4d_by_hand(layer, u.flip(2), 1).flip(2) + layer.through[:, None] * u
    torch.testing.assert_close(layer(u), expected, rtol=0, atol=1e-11)


def test_state_spaces_start_as_s4d_lin():
    torch.manual_seed(0)
    layer = DiagonalStateSpace(100, 4)
    rate, turn, *_ = layer.discretized()
    step = -2 * rate[..., :1]  # the real part of A is -1/2
    assert 1e-3 <= step.min() < 2e-3 and 5e-2 < step.max() <= 0.1
    torch.testing.assert_close(turn / step, math.pi * torch.arange(4.0).expand(2, 100, -1))


def test_derivatives_of_the_state_space_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer = DiagonalStateSpace(2, 2).double()
    names, values = zip(*layer.named_parameters(), strict=True)
    u = torch.randn(1, 2, 6, dtype=torch.float64, requires_grad=True)

    def response(u, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (u,))

    assert torch.autograd.gradcheck(response, (u, *values))


def test_time_constants_are_no_matrices_that_decay():
    model = S4D(12, 5)
    matrices = {name.rpartition(".")[2] for name, p in model.named_parameters() if p.ndim >= 2}
    assert matrices == {"weight", "readout"}
