"""Activations, attention and the rank of features against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.diagnostics.activations import DeadUnits, attention_entropy
from einthoven.diagnostics.rank import effective_rank, features


class Images(nn.Module):
    """Two rectifiers in a stage, one of images and one of tokens in others, none in the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 6, (1, 3)), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 1), nn.ReLU())
        self.tokens = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
        self.head = nn.Sequential(nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.tokens(self.stem(x)[:, :, 0].transpose(1, 2))
        logits: Tensor = self.head(tokens.mean(1))
        return logits


def dying() -> Images:
    """With some units that no record can wake."""
    torch.manual_seed(0)
    network = Images()
    with torch.no_grad():
        network.stem[0].bias[:2] = -100
        network.tokens[0].bias[3:6] = -100
        network.stem[2].weight[4] = network.stem[2].bias[4] = 0
    return network


def test_dead_units_are_those_that_no_record_wakes() -> None:
    network = dying()
    watch = DeadUnits(network, interval=2)
    first, second = torch.randn(2, 4, 2, 1, 9, generator=torch.Generator().manual_seed(0))
    with watch.attach_hooks():
        network(first)
        network(second)  # two parts of one batch
        seen = watch.take_metrics()
        watch.set_step(1)
        network(first)
        assert watch.take_metrics() == {}
    x = torch.cat([first, second])
    image = network.stem[:2](x)
    again = network.stem(x)
    tokens = network.tokens(again[:, :, 0].transpose(1, 2))
    dead = [int((a.amax((0, 2, 3)) == 0).sum()) for a in (image, again)]
    assert dead[0] >= 2 and dead[1] >= 1
    assert set(seen) == {"watch/act/dead/stem", "watch/act/dead/tokens"}
    assert seen["watch/act/dead/stem"].item() == pytest.approx(sum(dead) / 11)
    assert seen["watch/act/dead/tokens"].item() == pytest.approx(int((tokens.amax((0, 1)) == 0).sum()) / 8)
    assert seen["watch/act/dead/tokens"] >= 3 / 8


def test_a_unit_that_one_part_of_the_batch_wakes_is_alive() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    nn.init.ones_(network[0].weight)
    nn.init.zeros_(network[0].bias)
    watch = DeadUnits(network, interval=1)
    with watch.attach_hooks():
        network(torch.tensor([[-1.0], [-2.0]]))
        network(torch.tensor([[-3.0], [0.5]]))
        assert watch.take_metrics()["watch/act/dead/1"].item() == 0
        network(torch.tensor([[-1.0], [-2.0]]))
        assert watch.take_metrics()["watch/act/dead/1"].item() == 1


def test_the_entropy_of_attention() -> None:
    rng = np.random.default_rng(0)
    maps = rng.dirichlet(np.ones(7), (5, 3, 7))  # records, heads, queries; keys
    maps[:, 0] = np.eye(7)
    maps[:, 1] = 1 / 7
    found = attention_entropy({"block1": torch.from_numpy(maps)})
    assert found["watch/act/attention_entropy/block1/1"] == pytest.approx(0, abs=1e-6)
    assert found["watch/act/attention_entropy/block1/2"] == pytest.approx(math.log(7))
    expected = -(maps[:, 2] * np.log(maps[:, 2])).sum(-1).mean()
    assert found["watch/act/attention_entropy/block1/3"] == pytest.approx(expected, rel=1e-5)
    assert found["watch/act/attention_entropy_uniform/block1"] == pytest.approx(math.log(7))


def test_the_effective_rank_equals_that_of_the_covariance() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 6)) @ np.diag([5, 3, 1, 0.5, 0.1, 0]) @ rng.standard_normal((6, 6)) + 4
    share = np.linalg.eigvalsh(np.cov(x.T)).clip(0)
    share = share / share.sum()
    expected = math.exp(-(share[share > 0] * np.log(share[share > 0])).sum())
    assert effective_rank(torch.from_numpy(x)) == pytest.approx(expected, rel=1e-6)
    assert effective_rank(torch.outer(torch.randn(50), torch.ones(9))) == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.cat([torch.eye(4), -torch.eye(4)])) == pytest.approx(4)
    assert math.isnan(effective_rank(torch.ones(5, 3)))


def test_features_are_what_enters_the_head_of_an_evaluation() -> None:
    network = dying()
    x = torch.randn(10, 2, 1, 9, generator=torch.Generator().manual_seed(0))
    with features(network, rows=14) as seen:
        network(x)  # a training step is none
        network.eval()
        network(x)
        network(x)
    assert [len(part) for part in seen] == [10, 4]
    expected = network.tokens(network.stem(x)[:, :, 0].transpose(1, 2)).mean(1)
    torch.testing.assert_close(seen[0], expected.detach())
    assert not network.head._forward_pre_hooks
