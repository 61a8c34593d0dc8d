"""Quantities in their own unit outside of the loss, angles without a seam."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.losses.classification import asymmetric, cross_entropy, focal
from einthoven.tasks.regression import Direction, Regression


def task(kind: type[Regression] = Regression, **options: Any) -> Regression:
    return kind(**{"target": "age", "unit": "years", "shuffle_labels": False, **options})


def a_batch(y: torch.Tensor) -> Batch:
    x = torch.randn(len(y), 2, 3, generator=torch.Generator().manual_seed(0))
    return Batch(x, y, torch.arange(len(y)), torch.arange(len(y)) < len(y) - 1)


YEARS = torch.tensor([[20.0], [40.0], [60.0], [90.0], [30.0], [70.0]])


def test_the_network_learns_standardized_targets_and_everything_told_is_in_years() -> None:
    fitted, model = task().fit(YEARS), nn.Sequential(nn.Flatten(), nn.Linear(6, 1))
    assert fitted.fitted == {
        "mean": pytest.approx(YEARS.mean().item()),
        "sd": pytest.approx(YEARS.std(correction=0).item()),
    }
    batch = a_batch(YEARS)
    loss, outputs = fitted.loss(model, batch)
    y, p = (values[:5].double().detach().numpy() for values in (fitted.goal(batch), fitted.activation(outputs)))
    assert y[:, 0].tolist() == [20, 40, 60, 90, 30]
    found = fitted.metrics(y, p, ["age"])
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert found["mae"] == pytest.approx(np.abs(p - y).mean())
    assert found["rmse"] == pytest.approx(fitted.sd * found["loss"] ** 0.5)
    told = fitted.table(y, p, ["age"])
    np.testing.assert_allclose(told["age_predicted"], p[:, 0], atol=1e-4)
    np.testing.assert_allclose(told["error"], (p - y)[:, 0], atol=1e-4)
    np.testing.assert_allclose(fitted.record_errors(y, p), np.abs(p - y)[:, 0])
    assert fitted.describe(y[3], p[3], ["age"])[0] == "age 90 years"


def test_a_target_that_is_the_same_everywhere_is_not_divided_by_zero() -> None:
    fitted = task().fit(torch.full((5, 1), 60.0))
    assert (fitted.mean, fitted.sd) == (60.0, 1.0)
    assert "r2" not in fitted.metrics(np.full((5, 1), 60.0), np.full((5, 1), 61.0), ["age"])


def test_angles_have_no_seam() -> None:
    """Predictions of 179° and -179° are 2° apart, and their mean is 180°, not 0°."""
    axis = task(Direction, target="axis", unit="°")
    degrees = np.array([[179.0], [-179.0], [0.0], [90.0], [-45.0]])
    y = axis.encode(degrees)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1)
    true, error = axis.targets_and_errors(y, axis.encode(degrees[[1, 0, 2, 3, 4]]))
    np.testing.assert_allclose(true, degrees[:, 0], atol=1e-9)
    np.testing.assert_allclose(error, [2, -2, 0, 0, 0], atol=1e-9)
    mean = axis.readout(torch.from_numpy(y[:2].mean(axis=0, keepdims=True)))
    assert abs(mean.item()) == pytest.approx(180.0)
    found = axis.metrics(y, axis.encode(degrees + 360.0), ["axis"])
    assert found["mae"] == pytest.approx(0, abs=1e-9) and found["r2"] == pytest.approx(1)
    assert axis.fit(torch.from_numpy(y)) is axis


@pytest.mark.parametrize("loss", [cross_entropy, focal, asymmetric, partial(cross_entropy, label_smoothing=0.1)])
def test_losses_of_classes_are_refused(loss: Any) -> None:
    with pytest.raises(UserError, match="it is a loss of classes, and this task predicts a quantity"):
        task(objective=loss)


def test_a_negative_control_keeps_the_targets_and_loses_whose_they_are() -> None:
    y = YEARS.numpy()
    assert task().shuffle(y, 0) is y
    shuffled = task(shuffle_labels=True).shuffle(y, 0)
    assert sorted(shuffled.tolist()) == sorted(y.tolist()) and shuffled.tolist() != y.tolist()
