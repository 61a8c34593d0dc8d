"""The loss of a distillation against torch.distributions and finite differences, and the options that it refuses."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, kl_divergence

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.functional.information import kl, kl_of_logits
from einthoven.functional.outputs import mixture_logits
from einthoven.losses.classification import cross_entropy, focal
from einthoven.models.ensemble import Ensemble
from einthoven.tasks.distillation import Distillation

ASKED = pytest.mark.parametrize("single_label", [False, True], ids=["multi-label", "single-label"])
DIRECTIONS = pytest.mark.parametrize("direction", ["forward", "reverse"])


def some_logits(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def a_task(single_label: bool = False, **options: Any) -> Distillation:
    return Distillation("any", single_label, False, 0.0, False, 1.0, **{"teacher": ["x"], **options})


def expected_kl(p: Tensor, q: Tensor, single_label: bool) -> Tensor:
    """As torch.distributions defines it, reduced as the losses are."""
    if single_label:
        return kl_divergence(Categorical(logits=p), Categorical(logits=q))
    return kl_divergence(Bernoulli(logits=p), Bernoulli(logits=q)).mean(dim=-1)


@ASKED
@DIRECTIONS
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_divergence_is_that_of_torch_distributions(direction: str, single_label: bool, temperature: float) -> None:
    teacher, student = some_logits(6, 5), some_logits(6, 5, seed=1)
    task = a_task(single_label, direction=direction, kl_temperature=temperature)
    pair = (teacher, student / temperature) if direction == "forward" else (student / temperature, teacher)
    expected = temperature**2 * expected_kl(*pair, single_label)
    torch.testing.assert_close(task.divergence(teacher, student), expected)


@ASKED
def test_the_divergence_of_logits_is_that_of_probabilities(single_label: bool) -> None:
    p, q = some_logits(6, 5), some_logits(6, 5, seed=1)
    probabilities = p.softmax(-1) if single_label else p.sigmoid()
    torch.testing.assert_close(kl_of_logits(p, q, single_label), kl(probabilities, q, single_label, logits=True))
    assert bool((kl_of_logits(p, p, single_label) == 0).all())


@ASKED
@DIRECTIONS
def test_the_gradient_is_that_of_finite_differences(direction: str, single_label: bool) -> None:
    task = a_task(single_label, direction=direction, kl_temperature=2.0)
    student = some_logits(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(partial(task.divergence, some_logits(4, 3)), (student,))


@ASKED
@DIRECTIONS
def test_logits_whose_probabilities_round_to_0_or_1_have_a_finite_gradient(direction: str, single_label: bool) -> None:
    student = torch.tensor([[200.0, -200.0, 0.0], [-90.0, 40.0, 1.0]], requires_grad=True)
    teacher = -student.detach()
    loss = a_task(single_label, direction=direction).divergence(teacher, student)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert bool(loss.isfinite().all()) and bool(gradient.isfinite().all()) and bool((loss > 1).all())


@DIRECTIONS
def test_with_a_high_temperature_the_divergence_is_a_squared_distance_of_logits(direction: str) -> None:
    """Hinton, Vinyals & Dean 2015, section 2.1: matching logits is the limit. Both directions have the same limit."""
    teacher, student = some_logits(6, 5), some_logits(6, 5, seed=1)
    temperature = 1e4
    softened = teacher / temperature

    # A Bernoulli distribution near 1/2 has KL = (Δz)² / 8 per class.
    of_classes = a_task(kl_temperature=temperature, direction=direction).divergence(softened, student)
    torch.testing.assert_close(of_classes, (teacher - student).square().mean(-1) / 8, rtol=1e-3, atol=0)

    # A categorical distribution near 1/K has half the variance of Δz.
    of_records = a_task(True, kl_temperature=temperature, direction=direction).divergence(softened, student)
    variance = (teacher - student).var(dim=-1, correction=0)
    torch.testing.assert_close(of_records, variance / 2, rtol=1e-3, atol=0)


def test_with_a_low_temperature_only_the_most_probable_class_of_the_teacher_counts() -> None:
    """The teacher becomes one-hot, so that the divergence becomes the cross-entropy with its decision."""
    temperature = 1e-3
    teacher, student = some_logits(6, 5), 1e-3 * some_logits(6, 5, seed=1)
    loss = a_task(True, kl_temperature=temperature).divergence(teacher / temperature, student) / temperature**2
    hard = nn.functional.cross_entropy(student / temperature, teacher.argmax(-1), reduction="none")
    torch.testing.assert_close(loss, hard)


@ASKED
def test_an_ensemble_answers_with_the_mean_of_probabilities(single_label: bool) -> None:
    logits = some_logits(3, 6, 5)
    activation = partial(torch.softmax, dim=-1) if single_label else torch.sigmoid
    mixture = activation(mixture_logits(logits, single_label))
    torch.testing.assert_close(mixture, activation(logits).mean(dim=0))
    assert mixture_logits(logits[:1], single_label) is not None
    assert torch.equal(mixture_logits(logits[:1], single_label), logits[0])
    far = torch.tensor([[[90.0]], [[80.0]]])
    assert 80 < float(mixture_logits(far, False)) < 90


@ASKED
def test_members_are_softened_by_their_own_temperature_and_that_of_the_divergence(single_label: bool) -> None:
    torch.manual_seed(0)
    members = [nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 3)) for _ in range(2)]
    columns = [torch.tensor([0, 1, 2]), torch.tensor([2, 0, 1])]
    ensemble = Ensemble(members, columns, [1.0, 2.0], single_label)
    ensemble.train()
    assert not any(module.training for module in ensemble.modules())
    assert not any(parameter.requires_grad for parameter in ensemble.parameters())
    x = torch.randn(4, 2, 3)
    activation = partial(torch.softmax, dim=-1) if single_label else torch.sigmoid
    first, second = members[0](x) / 3, members[1](x)[:, [2, 0, 1]] / 6
    expected = (activation(first) + activation(second)) / 2
    torch.testing.assert_close(activation(ensemble(x, 3.0)), expected.detach())
    assert not ensemble(x).requires_grad


def a_batch(single_label: bool) -> Batch:
    y = torch.eye(3)[[0, 1, 2, 0]] if single_label else torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 1]])
    return Batch(torch.randn(4, 2, 3), y, torch.arange(4), torch.tensor([True, True, True, False]))


@ASKED
@DIRECTIONS
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_mixes_teacher_and_labels(direction: str, single_label: bool, weight: float) -> None:
    torch.manual_seed(0)
    batch = a_batch(single_label)
    student = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    teacher = Ensemble([nn.Sequential(nn.Flatten(), nn.Linear(6, 3))], [torch.arange(3)], [1.0], single_label)
    task = a_task(single_label, direction=direction, kl_temperature=2.0, label_weight=weight).taught_by(teacher)
    loss, logits = task.loss(student, batch)
    torch.testing.assert_close(logits, student(batch.x))

    # The last row only fills up the batch.
    z, w = logits[:3], teacher(batch.x)[:3]
    pair = (w / 2, z / 2) if direction == "forward" else (z / 2, w / 2)
    output = "softmax" if single_label else "sigmoid"
    of_labels = cross_entropy(z, batch.y[:3], output=output).mean()
    expected = (1 - weight) * 4 * expected_kl(*pair, single_label).mean() + weight * of_labels
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None and bool(p.grad.any()) for p in student.parameters())


def test_a_loss_without_teachers_is_a_fault_of_the_program() -> None:
    with pytest.raises(ValueError, match="needs its teachers"):
        a_task().loss(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), a_batch(False))


def test_only_a_loss_of_labels_alone_is_the_cross_entropy() -> None:
    assert not a_task().loss_is_cross_entropy
    assert not a_task(label_weight=0.5).loss_is_cross_entropy
    assert a_task(label_weight=1.0).loss_is_cross_entropy


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"teacher": []}, r"task.teacher=\[\]: expected one or more folders"),
        ({"kl_temperature": 0.0}, "task.kl_temperature=0.0: expected a number above 0"),
        ({"kl_temperature": math.inf}, "task.kl_temperature=inf"),
        ({"direction": "both"}, "task.direction=both: expected forward or reverse"),
        ({"label_weight": 1.1}, "task.label_weight=1.1: expected a number from 0 to 1"),
        ({"label_weight": -0.1}, "task.label_weight=-0.1"),
        ({"objective": partial(cross_entropy, label_smoothing=0.1)}, "loss.label_smoothing=0.1: has no effect"),
        ({"objective": partial(cross_entropy, class_weight="balanced")}, "loss.class_weight=balanced: has no effect"),
        ({"objective": partial(focal, gamma=2.0)}, "loss=focal: has no effect with task.label_weight=0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        a_task(**options)


def test_shuffled_labels_that_are_not_read_are_refused() -> None:
    options: dict[str, Any] = {"teacher": ["x"]}
    with pytest.raises(UserError, match=r"task.shuffle_labels=true: has no effect"):
        Distillation("any", False, False, 0.0, True, 1.0, **options)
    assert Distillation("any", False, False, 0.0, True, 1.0, label_weight=0.1, **options).shuffle_labels
