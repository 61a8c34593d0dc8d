"""What an initialization promises, measured on the network and on deep stacks of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from einthoven.diagnostics.activations import ActivationVariance
from einthoven.errors import UserError
from einthoven.models import init
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.inception1d import Inception1d
from einthoven.models.logistic import Logistic
from einthoven.models.lstm import LSTM
from einthoven.models.mlp import MLP, DenseLayer
from einthoven.models.s4d import S4D
from einthoven.models.wang import resnet1d_wang
from einthoven.models.xresnet1d import XResNet1d

XRESNET = partial(XResNet1d, bottleneck=False, blocks=(2, 2, 2, 2))
XAVIER = partial(init.xavier, gain=5 / 3)
RESIDUAL = [
    partial(ConvAttention, window=None),
    XRESNET,
    resnet1d_wang,
    Inception1d,
    S4D,
    partial(MLP, samples=250, skip=True, width=32, depth=4),
]


def signals(batch: int = 16, channels: int = 8, samples: int = 250) -> Tensor:
    """Smooth noise, of about unit variance: what a frontend hands over."""
    noise = torch.randn(batch, channels, samples, generator=torch.Generator().manual_seed(1))
    smooth = nn.functional.avg_pool1d(noise, 9, 1, 4)
    return smooth / smooth.std()


def recorded(layers: Sequence[nn.Module], run: Callable[[], object]) -> list[Tensor]:
    """Outputs of some layers, in the order in which they came; copies, for a ReLU may work in place."""
    outputs: list[Tensor] = []
    handles = [layer.register_forward_hook(lambda layer, inputs, out: outputs.append(out.clone())) for layer in layers]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return outputs


def growth(draw: Any, activation: str, seeds: int = 10, width: int = 512, depth: int = 30) -> float:
    """Second moment of the pre-activations, last layer over second: the first that has an activation before it."""
    ratios = []
    network = MLP(1, 2, samples=width, width=width, depth=depth, activation=activation, norm="none", dropout=0.0)
    layers = [layer.linear for layer in network.children() if isinstance(layer, DenseLayer)]
    for seed in range(seeds):
        torch.manual_seed(seed)
        x = torch.randn(64, 1, width)
        draw(network, x)
        outputs = recorded(layers, partial(network, x))
        moments = [out.square().mean() for out in outputs]
        assert len(moments) == depth
        ratios.append(float(moments[-1] / moments[1]))
    return sum(ratios) / len(ratios)


@pytest.mark.parametrize(("draw", "activation"), [(init.he, "relu"), (XAVIER, "tanh"), (init.lsuv, "relu")])
def test_the_right_pair_keeps_the_second_moment_over_thirty_layers(draw: Any, activation: str) -> None:
    seeds = 10 if draw is not init.lsuv else 2
    assert 0.5 < growth(draw, activation, seeds) < 2.0


def test_the_wrong_pair_is_off_by_orders() -> None:
    assert growth(init.xavier, "relu", seeds=2) < 1e-4  # halves at every layer
    assert growth(partial(init.xavier, gain=3.0), "relu", seeds=2) > 1e4


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (init.he, lambda n_in, n_out: (2 / n_in) ** 0.5),
        (init.xavier, lambda n_in, n_out: (2 / (n_in + n_out)) ** 0.5),
        (XAVIER, lambda n_in, n_out: 5 / 3 * (2 / (n_in + n_out)) ** 0.5),
    ],
)
def test_the_standard_deviation_is_that_of_the_formula(draw: Any, expected: Any) -> None:
    torch.manual_seed(0)
    network = MLP(8, 5, samples=50, width=300)
    draw(network, signals(samples=50))
    weight = network.get_submodule("layer2").linear.weight  # type: ignore[union-attr]
    assert float(weight.detach().std()) == pytest.approx(expected(300, 300), rel=0.02)  # type: ignore[arg-type]
    assert not any(p.any() for n, p in network.named_parameters() if n.endswith("linear.bias"))


def test_orthogonal_weights_have_one_singular_value() -> None:
    network = ConvAttention(8, 5)
    init.orthogonal(network, signals(), gain=1.5)
    for weight in (m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
        torch.testing.assert_close(
            torch.linalg.svdvals(weight.flatten(1)), torch.full((min(weight.flatten(1).shape),), 1.5)
        )


def test_gates_of_an_lstm_are_matrices_of_their_own_and_remember_at_first() -> None:
    network = LSTM(8, 5, hidden=32, bidirectional=True)
    init.orthogonal(network, signals())
    (lstm,) = [m for m in network.modules() if isinstance(m, nn.LSTM)]
    for gate in lstm.weight_hh_l0.view(4, lstm.hidden_size, -1):
        torch.testing.assert_close(gate @ gate.T, torch.eye(lstm.hidden_size), atol=1e-5, rtol=0)
    assert lstm.bias_ih_l0.view(4, -1).sum(dim=1).tolist() == [0, lstm.hidden_size, 0, 0]


@pytest.mark.parametrize("model", [XRESNET, partial(ConvAttention, window=None)], ids=["xresnet", "conv_attention"])
def test_lsuv_gives_every_layer_that_is_reached_unit_variance(model: Any) -> None:
    torch.manual_seed(0)
    network, x = model(8, 5), signals()
    init.lsuv(network, x)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    deviations = [float(out.std()) for out in recorded(layers, lambda: network.eval()(x))]
    reached = [deviation for deviation in deviations if deviation > 0]  # not those behind a silent branch
    assert len(reached) > 5 and reached == pytest.approx([1.0] * len(reached), rel=1e-3)


@pytest.mark.parametrize("model", RESIDUAL)
def test_zero_residual_silences_every_branch(model: Any) -> None:
    torch.manual_seed(0)
    network, x = model(8, 5), signals()
    init.he(network, x)
    init.zero_residual(network, x)
    ends = list(init._residual_ends(network))
    outputs = recorded(ends, lambda: network.eval()(x))
    assert ends and len(outputs) == len(ends) and not any(out.any() for out in outputs)


@pytest.mark.parametrize("call", [init.zero_residual, init.pca_patches])
def test_what_a_model_has_no_place_for_is_refused(call: Any) -> None:
    with pytest.raises(UserError, match="choose another init"):
        call(Logistic(8, 5, samples=250), signals())


def test_pca_patches_are_the_eigenvectors_of_windows_and_give_white_outputs() -> None:
    torch.manual_seed(0)
    network, x = ConvAttention(8, 5, window=None, channels=(128, 128)), signals(batch=64)
    before = network.stem.conv.weight.detach().clone()
    init.pca_patches(network, x, floor=1e-9)
    weight = network.stem.conv.weight.detach().flatten(1).double()
    size = weight.shape[1]
    windows = x.double().unfold(2, 7, 1).transpose(1, 2).reshape(-1, size)
    covariance = torch.cov(windows.T)
    _, vectors = torch.linalg.eigh(covariance)
    alignment = (weight[:size] / weight[:size].norm(dim=1, keepdim=True) @ vectors.flip(1)).abs().diagonal()
    torch.testing.assert_close(alignment, torch.ones_like(alignment), atol=1e-4, rtol=0)
    white = weight[:size] @ covariance @ weight[:size].T
    torch.testing.assert_close(white, torch.eye(size, dtype=torch.double), atol=1e-3, rtol=0)
    torch.testing.assert_close(weight[size : 2 * size], -weight[:size])
    assert torch.equal(network.stem.conv.weight[2 * size :], before[2 * size :])


def test_a_model_as_built_is_left_alone() -> None:
    torch.manual_seed(0)
    network = ConvAttention(8, 5)
    before = {name: p.clone() for name, p in network.state_dict().items()}
    init.default(network, signals())
    assert all(torch.equal(p, before[name]) for name, p in network.state_dict().items())


@pytest.mark.parametrize("gain", [0.0, -1.0, float("inf"), float("nan")])
def test_a_gain_out_of_range_is_refused(gain: float) -> None:
    for draw in (init.xavier, init.orthogonal):
        with pytest.raises(UserError, match=r"init\.gain"):
            draw(nn.Linear(2, 2), torch.zeros(1), gain=gain)


def test_the_variance_of_a_stage_is_measured_when_it_is_due_and_leaves_no_hook() -> None:
    network = nn.Sequential()
    network.add_module("first", nn.Linear(3, 4))
    network.add_module("second", nn.ReLU())
    x = torch.randn(50, 3)
    activations = ActivationVariance(network, interval=2)
    with activations.attach_hooks():
        network(x)
        seen = activations.take_metrics()
        assert set(seen) == {"watch/act/variance/first", "watch/act/variance/second"}
        activations.set_step(1)
        network(x)
        assert activations.take_metrics() == {}
        activations.set_step(2)
        network.eval()(x)
        assert activations.take_metrics() == {}  # an evaluation is no step
        network.train()(x)
        assert activations.take_metrics()
    assert not network[0]._forward_hooks
    torch.testing.assert_close(seen["watch/act/variance/first"], network[0](x).var())
    with ActivationVariance(network, None).attach_hooks():
        assert not network[0]._forward_hooks
