"""A classification that learns statements, and reports the classes that contain them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.models.readout import Readout
from einthoven.tasks.classification import Classification

READOUT = Readout(("a", "b", "c"), (("a", "b"), ("c",)))


def task(**options: Any) -> Classification:
    return Classification("sets", False, False, 0.0, False, 1.0, **{"targets": "all", **options})


def a_batch() -> Batch:
    """Six records with labels of two classes and three statements; the last one is padding."""
    generator = torch.Generator().manual_seed(0)
    statements = (torch.rand(6, 3, generator=generator) < 0.5).float()
    classes = torch.stack([statements[:, :2].amax(1), statements[:, 2]], dim=1)
    x = torch.randn(6, 2, 3, generator=generator)
    return Batch(x, torch.cat([classes, statements], dim=1), torch.arange(6), torch.arange(6) < 5)


def a_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 3))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_loss_is_that_of_the_statements_and_of_the_classes_with_their_weight(weight: float) -> None:
    batch, model = a_batch(), a_model()
    learned = task(read_weight=weight).read_by(READOUT).fit(batch.y)
    loss, logits = learned.loss(model, batch)
    outputs = model(batch.x)
    torch.testing.assert_close(logits, outputs)
    p = outputs.sigmoid()
    of_classes = torch.stack([1 - (1 - p[:, 0]) * (1 - p[:, 1]), p[:, 2]], dim=1)
    expected = binary_cross_entropy_with_logits(outputs[:5], batch.y[:5, 2:])
    expected = expected + weight * binary_cross_entropy(of_classes[:5], batch.y[:5, :2])
    torch.testing.assert_close(loss, expected)

    # All but the training loss is about the classes.
    torch.testing.assert_close(learned.activation(outputs), of_classes)
    torch.testing.assert_close(learned.goal(batch), batch.y[:, :2])
    assert learned.prior is not None and learned.prior.tolist() == batch.y[:, :2].mean(0).tolist()
    assert not learned.loss_is_cross_entropy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"single_label": True}, "task.targets=all: .* expected task.single_label=false"),
        ({"temperature": 2.0}, "task.targets=all: .* expected task.temperature=1"),
        ({"targets": None, "read_weight": 0.5}, "task.read_weight=0.5: has no effect without task.targets"),
        ({"targets": None, "soft_targets": True}, "task.soft_targets=true: has no effect without task.targets"),
        ({"read_weight": -1.0}, "task.read_weight=-1.0: expected a number, 0 or more"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    given = {"labels": "sets", "single_label": False, "keep_unlabelled": False, "min_likelihood": 0.0}
    given |= {"shuffle_labels": False, "temperature": 1.0, "targets": "all"}
    with pytest.raises(UserError, match=message):
        Classification(**{**given, **options})
