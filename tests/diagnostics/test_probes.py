from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.diagnostics.attention import attention, surest
from einthoven.diagnostics.gradient_noise import gradient_noise
from einthoven.diagnostics.probes import Trained
from einthoven.errors import UserError
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.frontend import Classifier, Frontend


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
