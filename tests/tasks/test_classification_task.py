from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.losses.classification import asymmetric, cross_entropy, focal
from einthoven.tasks.classification import Classification


def task(**options: Any) -> Classification:
    return Classification(
        **{
            "labels": "all",
            "single_label": False,
            "keep_unlabelled": False,
            "min_likelihood": 0.0,
            "shuffle_labels": False,
            "temperature": 1.0,
            **options,
        }
    )


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 2, 3, generator=generator)
    return Batch(x, torch.eye(3)[torch.arange(8) % 3], torch.arange(8), torch.arange(8) < 7)


LOSSES = {
    "cross_entropy": cross_entropy,
    "balanced": partial(cross_entropy, class_weight="balanced"),
    "smoothed": partial(cross_entropy, label_smoothing=0.1),
    "focal": focal,
    "asymmetric": asymmetric,
}


@pytest.mark.parametrize("single_label", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_probabilities_is_the_training_loss(name: str, single_label: bool) -> None:
    if single_label and name == "asymmetric":
        return
    batch, model = a_batch(), nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    fitted = task(single_label=single_label, objective=LOSSES[name], temperature=2.0).fit(batch.y)
    loss, logits = fitted.loss(model, batch)
    y, p = batch.y[:7], fitted.activation(model(batch.x))[:7].detach()
    torch.testing.assert_close(fitted.activation(2.0 * logits)[:7], p)  # what is returned has the temperature in it
    found = fitted.metrics(y.double().numpy(), p.double().numpy(), ["a", "b", "c"])
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    plain = replace(fitted, objective=cross_entropy)
    assert found["nll"] == pytest.approx(plain.loss(model, batch)[0].item(), rel=1e-5)
    errors = fitted.record_errors(y.double().numpy(), p.double().numpy())
    assert errors.shape == (7,) and errors.mean() == pytest.approx(found["nll"]) and errors.min() > 0


def test_certain_probabilities_have_a_finite_loss() -> None:
    y, p = torch.eye(3).double().numpy(), torch.eye(3).flip(0).double().numpy()
    for single_label in (False, True):
        found = task(single_label=single_label)
        nll = found.negative_log_likelihood(y, p)
        assert 100 < nll < 1500
        assert found.training_loss(y, p) == pytest.approx(nll)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"objective": asymmetric, "single_label": True}, "loss=asymmetric"),
        ({"objective": partial(focal, gamma=-1.0)}, "loss.gamma=-1.0"),
        ({"temperature": 0.0}, "task.temperature=0.0"),
        ({"objective": lambda z, y, **_: z}, "one value per record is expected, found (2, 2) for 2 records"),
    ],
)
def test_a_task_and_a_loss_that_do_not_fit_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as refusal:
        task(**options)
    assert expected in str(refusal.value)


def test_a_negative_control_keeps_the_labels_and_loses_whose_they_are() -> None:
    y = torch.arange(40).reshape(20, 2).numpy()
    assert task().shuffle(y, 0) is y
    shuffled = task(shuffle_labels=True).shuffle(y, 0)
    assert sorted(shuffled.tolist()) == y.tolist() != shuffled.tolist()


def test_no_loss_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor is read into Python on the way."""

    def waits(self: Tensor) -> float:
        raise AssertionError("a tensor was read")

    fitted = [task(objective=loss).fit(a_batch().y) for loss in LOSSES.values()]
    for name in ("item", "__bool__", "__float__", "cpu", "tolist"):
        monkeypatch.setattr(Tensor, name, waits)
    for each in fitted:
        each.loss(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), a_batch())
