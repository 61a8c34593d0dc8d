"""Penalties to a base: their values in closed form, their gradients, and what the training step tells of them."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor, nn

from einthoven.contracts import Batch, Task
from einthoven.errors import UserError
from einthoven.losses.classification import cross_entropy
from einthoven.optim.base_penalties import KLToBase, L2ToBase, Start
from einthoven.optim.layer_decay import decay_by_layer
from einthoven.optim.muon import muon
from einthoven.optim.optimizers import adamw, sgd
from einthoven.optim.penalties import Penalty
from einthoven.optim.sam import sam
from einthoven.training.memory import MicroBatch
from einthoven.training.step import train_step

STRENGTH = 0.7
RECORDS, FEATURES, CLASSES = 6, 5, 4
SHARED, OF_BASE = torch.tensor([3, 0, 1]), torch.tensor([1, 2, 0])  # columns of the model, and of its base


@pytest.fixture
def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES).double()


@pytest.fixture
def base() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(FEATURES, 3).double()


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(RECORDS, FEATURES, generator=generator, dtype=torch.float64)
    y = nn.functional.one_hot(torch.arange(RECORDS) % CLASSES, CLASSES).double()
    return Batch(x, y, torch.arange(RECORDS), torch.tensor([True] * 4 + [False] * 2))


class CrossEntropy:
    """In double precision, which the tasks of a run are not."""

    def __init__(self, single_label: bool) -> None:
        self.output = "softmax" if single_label else "sigmoid"

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = model(batch.x)
        per_record = cross_entropy(logits, batch.y, output=self.output)
        return (per_record * batch.valid).sum() / batch.valid.sum(), logits

    def goal(self, batch: Batch) -> Tensor:
        return batch.y

    def activation(self, outputs: Tensor, /) -> Tensor:
        return outputs


def a_start(base: nn.Module, single_label: bool) -> Start:
    def logits(x: Tensor) -> Tensor:
        with torch.no_grad():
            outputs: Tensor = base(x)[:, OF_BASE]
        return outputs

    return Start(logits, SHARED, single_label, {})


def step(model: nn.Module, task: Task, penalty: Penalty, micro_batch: int | None = None) -> dict[str, Tensor]:
    """One step with a learning rate that moves nothing: the gradients stay in the weights."""
    return train_step(
        model,
        task,
        a_batch(),
        torch.optim.SGD(model.parameters(), lr=0.0),
        augment=lambda x, y, generator: (x, y),
        generator=torch.Generator(),
        autocast=contextlib.nullcontext,
        clip_norm=math.inf,
        penalty=penalty,
        micro_batch=MicroBatch(micro_batch),
    )


@pytest.mark.parametrize("single_label", [False, True])
@pytest.mark.parametrize("micro_batch", [None, 4])
def test_kl_to_base_has_the_closed_form_and_leaves_the_loss_alone(
    model: nn.Linear, base: nn.Linear, single_label: bool, micro_batch: int | None
) -> None:
    batch, task = a_batch(), CrossEntropy(single_label)
    penalty = KLToBase(STRENGTH).bind(a_start(base, single_label))
    metrics = step(model, penalty.wrap(task), penalty, micro_batch)

    with torch.no_grad():
        z, z0 = model(batch.x)[:, SHARED].numpy(), base(batch.x)[:, OF_BASE].numpy()
    if single_label:
        divergence = stats.entropy(special.softmax(z0, axis=1), special.softmax(z, axis=1), axis=1)
    else:
        p, p0 = special.expit(z), special.expit(z0)
        divergence = (special.rel_entr(p0, p) + special.rel_entr(1 - p0, 1 - p)).mean(axis=1)
    expected = STRENGTH * divergence[batch.valid.numpy()].mean()
    assert float(metrics["train/penalty"]) == pytest.approx(expected, rel=1e-12)
    plain = step(model, task, Penalty(), micro_batch)
    assert float(metrics["train/loss"]) == float(plain["train/loss"])


@pytest.mark.parametrize("single_label", [False, True])
def test_the_gradient_of_kl_to_base_is_that_of_its_value(model: nn.Linear, base: nn.Linear, single_label: bool) -> None:
    batch, task, start = a_batch(), CrossEntropy(single_label), a_start(base, single_label)
    penalty = KLToBase(STRENGTH).bind(start)

    def value(outputs: Tensor) -> Tensor:
        return penalty.measure(batch, outputs)  # type: ignore[attr-defined]

    assert torch.autograd.gradcheck(value, model(batch.x).detach().requires_grad_())

    # A step has the gradient of loss and penalty: numerically, in one weight.
    penalty = KLToBase(STRENGTH).bind(start)
    step(model, penalty.wrap(task), penalty)
    found = float(model.weight.grad[3, 2])  # type: ignore[index]
    objectives = []
    for shift in (1e-5, -1e-5):
        with torch.no_grad():
            model.weight[3, 2] += shift
            moved = step(model, penalty.wrap(task), penalty)
            model.weight[3, 2] -= shift
        objectives.append(float(moved["train/loss"] + moved["train/penalty"]))
    assert found == pytest.approx((objectives[0] - objectives[1]) / 2e-5, rel=1e-6)


def test_kl_to_base_is_zero_at_the_base(base: nn.Linear) -> None:
    model = nn.Linear(FEATURES, CLASSES).double()
    with torch.no_grad():
        model.weight[SHARED] = base.weight[OF_BASE]
        model.bias[SHARED] = base.bias[OF_BASE]
    penalty = KLToBase(STRENGTH).bind(a_start(base, False))
    assert float(step(model, penalty.wrap(CrossEntropy(False)), penalty)["train/penalty"]) == pytest.approx(
        0, abs=1e-15
    )


@pytest.mark.parametrize(("single_label", "shared"), [(False, 0), (True, 1)])
def test_kl_to_base_without_shared_classes_is_refused(single_label: bool, shared: int) -> None:
    start = Start(lambda x: x, torch.arange(shared), single_label, {})
    with pytest.raises(UserError, match=f"{shared} classes of the run"):
        KLToBase(1.0).bind(start)


def test_l2_to_base_is_half_the_squared_distance_of_what_was_loaded_and_trains(model: nn.Linear) -> None:
    rows = torch.tensor([2, 0])
    weights: dict[str, tuple[Tensor | None, Tensor]] = {
        "weight": (rows, torch.ones(2, FEATURES).double()),
        "bias": (None, torch.zeros(CLASSES).double()),
    }
    penalty = L2ToBase(STRENGTH).bind(Start(lambda x: x, rows, False, weights))
    w, b = model.weight.detach().numpy(), model.bias.detach().numpy()
    value = penalty.loss(model)
    assert value is not None
    assert float(value.detach()) == pytest.approx(STRENGTH / 2 * (((w[[2, 0]] - 1) ** 2).sum() + (b**2).sum()))
    value.backward()
    expected = np.zeros_like(w)
    expected[[2, 0]] = STRENGTH * (w[[2, 0]] - 1)
    np.testing.assert_allclose(model.weight.grad, expected)

    # A frozen weight is no part of it. Without any, there is no penalty.
    model.weight.requires_grad_(False)
    of_bias = penalty.loss(model)
    assert of_bias is not None and float(of_bias.detach()) == pytest.approx(STRENGTH / 2 * (b**2).sum())
    model.bias.requires_grad_(False)
    assert penalty.loss(model) is None


def stages() -> tuple[nn.Sequential, list[list[nn.Parameter]]]:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    return model, [list(stage.parameters()) for stage in reversed(model)]


@pytest.mark.parametrize(
    "make",
    [
        adamw,
        sgd,
        muon,
        lambda model, lr: sam(model, base=lambda m: adamw(m, lr=lr)),
        lambda model, lr: sam(model, base=lambda m: muon(m, lr=lr)),
    ],
)
def test_the_learning_rate_decays_with_the_distance_from_the_head(make: object) -> None:
    model, of_stages = stages()
    optimizer = make(model, lr=0.1)  # type: ignore[operator]
    decay_by_layer(optimizer, of_stages, 0.5)
    rates = {p: group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    for distance, stage in enumerate(of_stages):
        assert {rates[p] for p in stage} == {0.1 * 0.5**distance}
        # The step has these rates, too: Adam and the sign of its first step move each weight by the rate.
    before = {p: p.detach().clone() for p in model.parameters()}

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(1, 4)).square().sum()
        loss.backward()
        return loss  # type: ignore[no-any-return]

    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    optimizer.step(closure)
    biases = [stage[1] for stage in of_stages]
    moved = [float((bias.detach() - before[bias]).abs().mean()) for bias in biases]
    if make is not sgd:
        assert moved == pytest.approx([0.1, 0.05, 0.025], rel=1e-3)
