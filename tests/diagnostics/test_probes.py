from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.diagnostics.attention import attention, surest
from einthoven.diagnostics.dense_layers import dense_layers
from einthoven.diagnostics.gradient_noise import gradient_noise
from einthoven.diagnostics.mean_attention import mean_attention, shuffle_pieces
from einthoven.diagnostics.probes import Trained
from einthoven.errors import UserError
from einthoven.functional.unit_matching import dense_logits
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.mlp import MLP
from einthoven.models.vit1d import ViT1d


def trained(network: nn.Module, x: Tensor, y: Tensor) -> Trained:
    """A trained network and its records, as an analysis receives them."""

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        outputs = model(batch.x)
        return (outputs - batch.y).square().mean(), outputs

    def batch(split: str, rows: Tensor) -> Batch:
        return Batch(x[rows], y[rows], rows, torch.ones(len(rows), dtype=torch.bool))

    task = SimpleNamespace(loss=loss, activation=torch.sigmoid, goal=lambda batch: batch.y)
    model = Classifier(Frontend(x.shape[1]), network).eval()
    return Trained(model, task, {"train": len(x)}, batch, ("A", "B")[: y.shape[1]], ("I", "II"), 100.0)  # type: ignore[arg-type]


def test_the_noise_of_a_batch_is_that_of_sampling_without_replacement() -> None:
    """Of a linear model, in float64: the gradient of a record is 2 (w·x - y) x."""
    n, generator = 96, torch.Generator().manual_seed(0)
    x, y = (torch.randn(shape, generator=generator) for shape in ((n, 2, 3), (n, 1)))
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 1, bias=False))
    found = {
        name: value.double().numpy() for name, value in gradient_noise(trained(network, x, y), batches=200).items()
    }
    flat, weight = x.flatten(1).double().numpy(), network[1].weight.detach().double().numpy()[0]
    single = 2 * (flat @ weight - y.double().numpy()[:, 0])[:, None] * flat
    total = np.square(single - single.mean(axis=0)).sum(axis=1).mean()  # trace of the covariance
    assert found["size"].tolist() == [1, 2, 4, 8, 16, 32, 64] and found["records"] == n
    assert found["gradient"] == pytest.approx(np.linalg.norm(single.mean(axis=0)), rel=1e-4)
    assert found["noise"][0] == pytest.approx(math.sqrt(total), rel=1e-4)  # every record is a batch of its own
    law = np.sqrt(total / found["size"] * (n - found["size"]) / (n - 1))
    np.testing.assert_allclose(found["noise"][:5], law[:5], rtol=0.25)  # the means of 6 batches or more


def test_the_surest_record_of_a_class_has_its_label_alone() -> None:
    y = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    p = torch.tensor([[0.2, 0.0, 0.9], [0.9, 0.9, 0.9], [0.6, 0.8, 0.9], [0.0, 0.1, 0.9]])
    assert surest(y, p).tolist() == [2, 3]  # nothing shows the third class


def test_attention_is_that_of_the_network_on_the_records_that_are_kept_beside_it() -> None:
    torch.manual_seed(0)
    network = ConvAttention(2, 2, window=None, channels=(8, 8), heads=2, samples=64)
    x, y = torch.randn(6, 2, 64), torch.eye(2).repeat(3, 1)
    found = attention(trained(network, x, y))
    assert found["map/block1"].shape == (2, 2, 16, 16) and float(found["fs"]) == 100.0
    signal = torch.stack([found["signal/I"], found["signal/II"]], dim=1)
    torch.testing.assert_close(found["map/block1"], network.attention_maps(signal)["block1"])
    assert found["label/A"].tolist() == [1, 0] and found["label/B"].tolist() == [0, 1]
    torch.testing.assert_close(found["probability/B"], network(signal).sigmoid()[:, 1])
    with pytest.raises(UserError, match="Flatten has no attention maps"):
        attention(trained(nn.Flatten(), x, y))
    with pytest.raises(UserError, match="no train record has one class alone"):
        attention(trained(network, x, torch.ones_like(y)))


def test_a_network_of_short_windows_is_asked_about_the_first() -> None:
    network = ConvAttention(2, 2, window=0.32, fs=100.0, channels=(8, 8), heads=2, samples=64)
    found = attention(trained(network, torch.randn(4, 2, 64), torch.eye(2).repeat(2, 1)))
    assert found["map/block1"].shape == (2, 2, 8, 8) and found["signal/I"].shape == (2, 32)


def test_mean_attention_is_the_mean_over_records() -> None:
    torch.manual_seed(0)
    network = ViT1d(2, 2, samples=40, patch=5, dim=8, depth=2, heads=2)
    x = torch.randn(70, 2, 40)  # more than one chunk
    found = mean_attention(trained(network, x, torch.eye(2).repeat(35, 1)), shuffles=0)
    expected = network.eval().attention_maps(x)
    assert found.keys() == {"map/block1", "map/block2"}
    for block, weights in expected.items():
        torch.testing.assert_close(found[f"map/{block}"], weights.double().mean(dim=0), atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="Flatten has no attention maps"):
        mean_attention(trained(nn.Flatten(), x, x))


def test_the_pieces_of_each_record_are_shuffled_and_the_rest_stays() -> None:
    x = torch.arange(2 * 2 * 11.0).view(2, 2, 11)
    shuffled = shuffle_pieces(x, 5, torch.Generator().manual_seed(0))  # three pieces of three samples, and two more
    assert not torch.equal(shuffled, x) and torch.equal(shuffled[..., 9:], x[..., 9:])
    for before, after in zip(x[..., :9].unflatten(2, (3, 3)), shuffled[..., :9].unflatten(2, (3, 3)), strict=True):
        order = [int((before[0] == piece).all(dim=1).nonzero()) for piece in after[0]]
        assert sorted(order) == [0, 1, 2]
        torch.testing.assert_close(after, before[:, order])


def test_between_shuffled_pieces_only_the_positions_are_left() -> None:
    torch.manual_seed(0)
    x, off_diagonal = torch.randn(4, 2, 20), ~torch.eye(4, dtype=torch.bool)

    def spread(positions: str, shuffles: int) -> float:
        torch.manual_seed(1)
        network = ViT1d(2, 2, samples=20, patch=5, dim=8, depth=1, heads=2, positions=positions)
        with torch.no_grad():
            network.attention[1].attention.qkv.weight.mul_(4)  # attention that is far from even
        found = mean_attention(trained(network, x, torch.eye(2).repeat(2, 1)), shuffles=shuffles)
        return float(found["map/block1"][:, off_diagonal].std(dim=1).max())

    assert spread("none", 200) < 0.025 < 0.1 < spread("none", 0)
    assert min(spread("sinusoidal", 200), spread("rotary", 200)) > 0.04


@pytest.mark.parametrize("positions", ["none", "rotary", "sinusoidal"])
def test_only_without_positions_is_attention_to_equal_tokens_even(positions: str) -> None:
    torch.manual_seed(0)
    network = ViT1d(2, 2, samples=40, patch=5, dim=8, depth=1, heads=2, positions=positions)
    patch = torch.randn(1, 2, 5)
    found = mean_attention(trained(network, patch.repeat(4, 1, 8), torch.eye(2).repeat(2, 1)))
    is_even = torch.allclose(found["map/block1"], torch.full((2, 8, 8), 1 / 8, dtype=torch.float64), atol=1e-6)
    assert is_even == (positions == "none")


def test_dense_layers_compute_the_outputs_and_the_loss_of_the_run() -> None:
    torch.manual_seed(0)
    network = MLP(2, 2, samples=7, width=5, depth=2, norm="none", dropout=0.5)
    x, y = torch.randn(9, 2, 7), torch.eye(2).repeat(5, 1)[:9]
    run = trained(network, x, y)
    found = {name: value.double().numpy() for name, value in dense_layers(run, records=6).items()}
    assert len(found["inputs"]) == len(found["labels"]) == 6
    layers = [(found[f"weight/{k}"], found[f"bias/{k}"]) for k in (1, 2, 3)]
    outputs = dense_logits(layers, found["inputs"], lambda features: np.maximum(features, 0))
    rows = torch.linspace(0, 8, 6).long()
    np.testing.assert_allclose(outputs, run.model(x[rows]).detach().numpy(), atol=1e-5)
    assert float(found["loss"]) == pytest.approx(np.square(outputs - y[rows].numpy()).mean(), rel=1e-4)


@pytest.mark.parametrize("options", [{"norm": "batch"}, {"activation": "tanh"}, {"skip": True}])
def test_networks_that_are_more_than_dense_layers_are_refused(options: dict[str, object]) -> None:
    plain = {"norm": "none", "activation": "relu", "skip": False}
    network = MLP(2, 2, samples=4, width=3, depth=2, **(plain | options))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"expected model=mlp model\.norm=none"):
        dense_layers(trained(network, torch.randn(4, 2, 4), torch.eye(2).repeat(2, 1)))
