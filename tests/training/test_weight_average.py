"""Averages of the weights: closed forms, and the statistics of batch norms that `torch` computes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from einthoven.training.averaging import WeightAverage
from einthoven.training.batch_norm import recompute_statistics


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Flatten(), nn.Linear(60, 4), nn.BatchNorm1d(4)
    )


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 2, 12, generator=generator) for _ in range(5)]


def random_walk(model: nn.Module, average: WeightAverage, steps: int) -> Tensor:
    """Move the weights at random. Return those after each step (steps, n), in float64."""
    walk = []
    generator = torch.Generator().manual_seed(2)
    for step in range(1, steps + 1):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=generator))
        average.after_step(step)
        walk.append(weights(model))
    return torch.stack(walk)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def nothing() -> None:
    """Without batch norms there are no statistics."""


def test_the_exponential_average_has_its_closed_form() -> None:
    model = nn.Linear(5, 3)
    average = WeightAverage(model, decay=0.9, first_step=1, interval=1, recompute=nothing)
    walk = random_walk(model, average, 30)
    factors = 0.9 ** torch.arange(29, -1, -1, dtype=torch.float64)
    with average.applied():
        torch.testing.assert_close(weights(model), (factors @ walk) / factors.sum(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights(model), walk[-1], rtol=0, atol=0)


def test_the_plain_average_is_the_mean_of_the_weights_at_the_ends_of_the_last_epochs() -> None:
    model = nn.Linear(5, 3)
    # Epochs of 4 steps. The last three of 5 epochs are averaged.
    average = WeightAverage(model, decay=1.0, first_step=12, interval=4, recompute=nothing)
    walk = random_walk(model, average, 20)
    assert average.count == 3
    average.apply()
    torch.testing.assert_close(weights(model), walk[[11, 15, 19]].mean(dim=0), rtol=1e-5, atol=1e-5)


def test_without_an_update_the_weights_are_used_as_they_are() -> None:
    model = nn.Linear(5, 3)
    average = WeightAverage(model, decay=1.0, first_step=12, interval=4, recompute=nothing)
    walk = random_walk(model, average, 11)
    with average.applied():
        assert torch.equal(weights(model), walk[-1])
    assert average.state_dict() == {"count": 0, "raw": None}


def test_the_statistics_are_those_of_update_bn() -> None:
    expected = network()
    # The dropout of both draws the same masks.
    torch.manual_seed(7)
    update_bn(batches(), expected)
    model = network().eval()
    state = torch.get_rng_state()
    recompute_statistics(model, batches(), model, seed=7)
    for a, b in zip(model.buffers(), expected.buffers(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm1d)] == [0.1, 0.1]


def test_without_batch_norms_nothing_changes() -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.3)).eval()
    state = torch.get_rng_state()
    recompute_statistics(model, [torch.randn(2, 5, generator=torch.Generator())], model, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training


def test_frozen_statistics_stay() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Frozen:
            super().train(mode)
            self[1].eval()
            return self

    model = Frozen(*network())
    before = copy.deepcopy(dict(model.named_buffers()))
    recompute_statistics(model, batches(), model, seed=0)
    moved = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert moved == {"5.running_mean", "5.running_var", "5.num_batches_tracked"}


def test_the_averaged_weights_have_statistics_of_their_own() -> None:
    model = network()
    average = WeightAverage(
        model, decay=0.5, first_step=1, interval=1, recompute=lambda: recompute_statistics(model, batches(), model, 3)
    )
    random_walk(model, average, 3)
    raw = copy.deepcopy(model.state_dict())
    with average.applied():
        averaged = copy.deepcopy(model)
    assert all(torch.equal(value, raw[name]) for name, value in model.state_dict().items())
    expected = copy.deepcopy(averaged)
    torch.manual_seed(3)
    update_bn(batches(), expected)
    for name, value in averaged.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
    assert not torch.equal(averaged[1].running_mean, raw["1.running_mean"])  # type: ignore[index, arg-type]


@pytest.mark.parametrize("cut", [2, 9])
def test_an_average_goes_on_where_it_was_saved(cut: int) -> None:
    def made(model: nn.Module) -> WeightAverage:
        def recompute() -> None:
            recompute_statistics(model, batches(), model, 3)

        return WeightAverage(model, decay=0.8, first_step=4, interval=2, recompute=recompute)

    def move(model: nn.Module, average: WeightAverage, steps: range) -> None:
        for step in steps:
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(step)))
            average.after_step(step)

    whole = network()
    whole_average = made(whole)
    move(whole, whole_average, range(1, 15))
    whole_average.apply()

    first = network()
    first_average = made(first)
    move(first, first_average, range(1, cut + 1))
    state = first_average.state_dict()
    with first_average.applied():
        averaged = copy.deepcopy(first.state_dict())
    resumed = network()
    resumed_average = made(resumed)
    resumed.load_state_dict(averaged)
    resumed_average.load_state_dict(state)
    if state["raw"] is not None:
        resumed.load_state_dict(state["raw"])
    move(resumed, resumed_average, range(cut + 1, 15))
    resumed_average.apply()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
