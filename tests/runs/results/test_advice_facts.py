"""Facts about optimizer, augmentation and first biases that advice is based on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.data.store.splits import DeviceSplit
from einthoven.models.frontend import Classifier, Frontend
from einthoven.predict.network import last_layer
from einthoven.runs.results import advice
from einthoven.runs.results.advice_facts import decay_per_rate, measure_augmentation, measure_biases
from einthoven.tasks.classification import Classification

TRAIN = DeviceSplit(torch.randint(-500, 500, (20, 12, 100), dtype=torch.int16), torch.zeros(20, 2))


@pytest.mark.parametrize(
    ("name", "expected"), [("SGD", 0.3), ("AdamW", 0.3), ("Adam", 0.0), ("RMSprop", 0.0), ("Adagrad", 0.0)]
)
def test_only_decay_that_is_not_divided_by_the_gradient_counts(name: str, expected: float) -> None:
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    groups = [{"params": weights[:1], "weight_decay": 0.3}, {"params": weights[1:], "weight_decay": 0.0}]
    assert decay_per_rate(getattr(torch.optim, name)(groups, lr=0.1)) == expected


def test_the_decay_that_counts_is_what_a_step_removes() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.NAdam([weight], lr=0.1, weight_decay=0.3, decoupled_weight_decay=True)
    weight.grad = torch.zeros(3)
    optimizer.step()
    assert weight.tolist() == pytest.approx([1 - 0.1 * decay_per_rate(optimizer)] * 3)


def test_the_share_that_is_hidden_and_the_power_that_is_added_are_measured() -> None:
    def hide(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x[:, :9] = 0
        return x, y

    def add_noise(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return x + 3 * x.std() * torch.randn(x.shape, generator=generator), y

    hidden = measure_augmentation(hide, TRAIN, 80, 0)
    assert hidden["hidden"] == pytest.approx(0.75, abs=1e-3) and hidden["power"] == pytest.approx(0.25, abs=0.05)
    noisy = measure_augmentation(add_noise, TRAIN, 80, 0)
    assert noisy["hidden"] == 0 and noisy["power"] == pytest.approx(10, rel=0.1)
    assert TRAIN.signals[:, :9].any(), "the records stay as they are"


def test_a_crop_and_constant_records_are_measured_too() -> None:
    cropped = measure_augmentation(lambda x, y, generator: (x[:, :, :50], y), TRAIN, 80, 0)
    assert cropped["hidden"] < 0.01 and cropped["power"] == pytest.approx(1, abs=0.2)
    constant = DeviceSplit(torch.ones(3, 12, 100, dtype=torch.int16), torch.zeros(3, 2))
    assert measure_augmentation(lambda x, y, generator: (x, y), constant, 80, 0) == {}


@pytest.mark.parametrize("single_label", [False, True])
def test_biases_are_compared_with_the_shares_of_the_classes(single_label: bool) -> None:
    model = Classifier(Frontend(12), nn.Sequential(nn.Flatten(), nn.Linear(12 * 4, 3)))
    task = Classification("all", single_label, False, 0.0, False, 1.0)
    y = np.eye(3)[[0, 0, 1, 2]]
    layer = last_layer(model, 3)
    assert layer is not None

    def excess(biases: list[float]) -> float:
        layer.bias.data = torch.tensor(biases)
        found = measure_biases(model, task, y)
        assert found is not None
        return found

    assert excess([0.0, 0.0, 0.0]) == 0
    shares = torch.tensor(y.mean(axis=0))
    at_shares = shares.log() if single_label else shares.logit()
    chance = task.negative_log_likelihood(y, np.broadcast_to(y.mean(axis=0), y.shape))
    of_zeros = np.log(3) if single_label else np.log(2)
    assert excess(at_shares.float().tolist()) == pytest.approx(chance - of_zeros, abs=1e-6)
    assert excess([-5.0, 5.0, 5.0]) > 1


def test_a_network_without_biases_in_its_last_layer_has_no_such_fact() -> None:
    model = Classifier(Frontend(12), nn.Sequential(nn.Flatten(), nn.Linear(48, 3, bias=False)))
    assert measure_biases(model, Classification("all", False, False, 0.0, False, 1.0), np.eye(3)) is None


def test_chance_predicts_the_shares_of_training_in_each_split() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    splits = {"val": SimpleNamespace(labels=torch.tensor([[1.0, 1.0]])), "train": SimpleNamespace(labels=train)}
    task = Classification("all", False, False, 0.0, False, 1.0)
    run = SimpleNamespace(task=task, data=SimpleNamespace(splits=splits))
    losses = advice._chance_losses(run)
    # The second class has no positive training record, so its share counts as half a record of four.
    assert losses["val"] == pytest.approx(-(np.log(1 / 4) + np.log(1 / 8)) / 2)
    assert losses["train"] == pytest.approx(-(np.log(1 / 4) + 3 * np.log(3 / 4) + 4 * np.log(7 / 8)) / 8)
