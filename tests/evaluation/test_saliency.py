"""Methods of explanation against closed forms, matrix products and a second way to compute them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.evaluation.saliency import (
    attention_rollout,
    grad_cam,
    gradient,
    input_gradient,
    integrated_gradients,
    rollout,
)
from einthoven.functional.moments import lead_moments
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.lstm import LSTM
from einthoven.models.mlp import MLP
from einthoven.models.time_frontend import TimeFrontend
from einthoven.models.vit1d import ViT1d

TARGET = torch.tensor([0, 2])


def signals(n: int = 2, samples: int = 300, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 0.5, (n, 12, samples))).float()


def frontend(mode: str = "leads", k: int | None = 8) -> Frontend:
    moments = lead_moments(
        iter([np.random.default_rng(1).normal(0, 400, (20, 12, 300)).astype(np.int16)]), scale=np.float32(1e-3)
    )
    return Frontend.fit(moments, mode, k)


class Linear(nn.Module):
    """Logits as weighted sums over all that is read."""

    def __init__(self, channels: int, samples: int, classes: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(channels * samples, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


class Tiny(nn.Module):
    """One convolution, ReLU in place behind it, the mean over time, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(12, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.conv(x)).mean(dim=2))


def small_attention(window: float | None = 1.0, **options: Any) -> Classifier:
    torch.manual_seed(0)
    network = ConvAttention(8, 3, channels=(8, 8), heads=2, window=window, fs=100.0, samples=300, **options)
    return Classifier(frontend(), network).eval()


def test_of_a_linear_model_gradient_times_input_and_integrated_gradients_are_its_terms() -> None:
    torch.manual_seed(0)
    model = Classifier(Frontend(12), Linear(12, 300)).eval()
    x = signals()
    terms = model.network.layer.weight[TARGET].view(2, 12, 300) * x  # type: ignore[union-attr]
    for method in (input_gradient, integrated_gradients):
        torch.testing.assert_close(method(model, x, TARGET), terms)


@pytest.mark.parametrize(("mode", "k"), [("leads", 8), ("leads", 3), ("whiten", None), ("none", None)])
def test_gradients_land_on_the_leads_through_the_transposed_components(mode: str, k: int | None) -> None:
    """By the chain rule: gradient with respect to the components, back through the matrix, over the scale."""
    model = Classifier(frontend(mode, k), small_attention().network)
    if model.frontend.out_channels != 8:
        torch.manual_seed(0)
        network = ConvAttention(model.frontend.out_channels, 3, channels=(8, 8), heads=2, window=1.0, fs=100.0)
        model = Classifier(model.frontend, network).eval()
    x = signals()
    components = model.frontend(x).detach().requires_grad_()
    (inside,) = torch.autograd.grad(model.network(components)[[0, 1], TARGET].sum(), components)
    projection = model.frontend.projection
    by_hand = torch.einsum("kl,nkt->nlt", projection, inside) / model.frontend.std  # type: ignore[operator]
    torch.testing.assert_close(gradient(model, x, TARGET), by_hand)


def test_integrated_gradients_add_up_to_what_the_record_changes() -> None:
    torch.manual_seed(0)
    smooth = ViT1d(8, 3, samples=300, patch=25, dim=16, depth=2, heads=2)
    model = Classifier(frontend(), smooth).eval()
    x = signals()
    found = integrated_gradients(model, x, TARGET, steps=256)
    with torch.no_grad():
        change = (model(x) - model(torch.zeros_like(x)))[[0, 1], TARGET]
    torch.testing.assert_close(found.sum(dim=(1, 2)), change, rtol=2e-3, atol=2e-4)
    rough = small_attention()
    with torch.no_grad():
        change = (rough(x) - rough(torch.zeros_like(x)))[[0, 1], TARGET]
    errors = [(integrated_gradients(rough, x, TARGET, steps=s).sum(dim=(1, 2)) - change).abs().max() for s in (4, 128)]
    assert errors[1] < errors[0] and errors[1] < 0.02 * change.abs().max()


@pytest.mark.parametrize("method", [input_gradient, integrated_gradients, grad_cam, attention_rollout])
def test_a_batch_is_explained_as_its_records_one_by_one_and_leaves_no_trace(method: Any) -> None:
    model, x = small_attention(), signals()
    together = method(model, x, TARGET)
    assert together.shape == x.shape and torch.isfinite(together).all() and together.abs().max() > 0
    alone = torch.cat([method(model, x[[i]], TARGET[[i]]) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters()) and not x.requires_grad


def test_grad_cam_is_what_is_calculated_by_hand() -> None:
    """The head is linear behind a mean: the gradient of a channel is its weight over T where the ReLU is open."""
    torch.manual_seed(0)
    model = Classifier(Frontend(12), Tiny()).eval()
    x = signals(samples=40)
    network = model.network
    with torch.no_grad():
        activation = F.conv1d(x, network.conv.weight, network.conv.bias, stride=2, padding=1)  # type: ignore[arg-type,union-attr]
    weight = network.head.weight[TARGET]  # type: ignore[union-attr,index]
    alpha = weight[:, :, None] * (activation > 0) / activation.shape[2]
    curve = (alpha.mean(dim=2, keepdim=True) * activation).sum(dim=1).clamp(min=0)
    fine = torch.stack([torch.from_numpy(np.interp(np.arange(40), np.arange(20) * 2 + 0.5, c)) for c in curve.detach()])
    found = grad_cam(model, x, TARGET)
    torch.testing.assert_close(found, fine.float()[:, None].expand(2, 12, 40), rtol=1e-4, atol=1e-7)


def test_windows_inside_the_model_are_put_back_where_they_were() -> None:
    """With a window as long as the record nothing is cut; the end of a record is what its last window reads there."""
    cut, whole = small_attention(1.0), small_attention(None)
    whole.load_state_dict(cut.state_dict())
    x = signals(samples=100)
    for method in (grad_cam, attention_rollout):
        torch.testing.assert_close(method(cut, x, TARGET), method(whole, x, TARGET))
    starts, length = cut.pieces(300)
    assert (starts, length) == ([0, 48, 100, 148, 200], 100)
    x = signals()
    maps = cut.network.attention_maps(cut.frontend(x))["block1"].unflatten(0, (2, 5))  # type: ignore[operator]
    last = F.interpolate(rollout([maps[:, -1]])[:, None], size=100, mode="linear")[:, 0]
    torch.testing.assert_close(attention_rollout(cut, x, TARGET)[:, 3, 250:], last[:, 50:])


def test_the_time_frontend_gives_pieces_in_samples() -> None:
    front = TimeFrontend(12, 4, 20, 5)
    assert front.samples(front.steps(300)) == 300
    model = Classifier(front, ConvAttention(48, 3, channels=(8, 8), heads=2, window=1.0, fs=20.0)).eval()
    starts, length = model.pieces(300)
    assert length == 19 * 5 + 20 and front.steps(length) == 20 and starts[0] == 0 and 300 <= starts[-1] + length < 320
    x = signals()
    for method in (integrated_gradients, grad_cam, attention_rollout):
        assert method(model, x, TARGET).shape == x.shape


def test_roll_out_is_one_where_all_tokens_are_read_alike_and_follows_the_blocks() -> None:
    even = torch.full((2, 4, 4), 0.25)
    torch.testing.assert_close(rollout([even, even]), torch.ones(4))
    first, second = (torch.rand(3, 2, 10, 10, generator=torch.Generator().manual_seed(s)).softmax(-1) for s in (1, 2))
    both = rollout([first, second])
    eye, mixed = torch.eye(10), [m.mean(dim=1) for m in (first, second)]
    # a token of the second block reads what the tokens of the first have become
    by_hand = torch.stack([(0.5 * (b + eye)) @ (0.5 * (a + eye)) for a, b in zip(*mixed, strict=True)])
    torch.testing.assert_close(both, 10 * by_hand.mean(dim=1))


def test_a_method_that_does_not_suit_a_network_names_it() -> None:
    x = signals()
    with pytest.raises(UserError, match="attention_rollout: Tiny has no attention maps"):
        attention_rollout(Classifier(Frontend(12), Tiny()), x, TARGET)
    mlp = Classifier(Frontend(12), MLP(12, 3, width=4, depth=1, samples=300)).eval()
    with pytest.raises(UserError, match="grad_cam: MLP has no convolution"):
        grad_cam(mlp, x, TARGET)
    lstm = Classifier(Frontend(12), LSTM(12, 3, bidirectional=True, hidden=4, layers=1)).eval()
    assert input_gradient(lstm, x[..., :50], TARGET).abs().max() > 0
