"""The contrastive task: its loss, its scores, and where its gradients flow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.losses.classification import focal
from einthoven.losses.contrastive import nt_xent
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.pretraining import PretrainingModel
from einthoven.tasks.contrastive import Contrastive


def task(**options: Any) -> Contrastive:
    return Contrastive(**{"hidden": 6, "dims": 4, "pairs": "record", **options})


def model() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("stem", nn.Conv1d(12, 5, 7))
    network.add_module("pool", nn.AdaptiveMaxPool1d(1))
    network.add_module("flat", nn.Flatten())
    network.add_module("head", nn.Linear(5, 6))
    return task().build_model(Classifier(Frontend(12), network), 50)


def batch(n: int = 8) -> Batch:
    x = torch.randn(n, 12, 50, generator=torch.Generator().manual_seed(1))
    return Batch(x, torch.zeros(n, 0), torch.arange(n), torch.ones(n, dtype=torch.bool))


def noisy(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return x + 0.1 * torch.randn(x.shape, generator=generator), y


def test_the_loss_is_nt_xent_of_the_projections_of_two_views() -> None:
    trained = model()
    contrastive = task(views=noisy)
    torch.manual_seed(5)
    a, b = contrastive.project(trained, batch().x)
    torch.manual_seed(5)
    loss, outputs = contrastive.loss(trained, batch())
    assert not torch.allclose(a, b) and a.shape == (8, 4)
    torch.testing.assert_close(loss, nt_xent(a, b).mean())
    torch.testing.assert_close(outputs, a)


def test_the_views_follow_from_the_seed_of_the_step() -> None:
    trained = model().eval()
    contrastive = task(views=noisy)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(float(contrastive.loss(trained, batch())[0].detach()))
    assert losses[0] == losses[1] != losses[2]


def test_pairs_of_records_are_the_two_views() -> None:
    trained = model().eval()
    x = batch(6).x
    a, b = task().project(trained, torch.stack([x[:3], x[3:]], dim=1))
    torch.testing.assert_close(torch.cat([a, b]), trained(x))


def test_all_of_the_model_gets_a_gradient_and_the_frontend_none() -> None:
    trained = model()
    loss, _ = task(views=noisy).loss(trained, batch())
    loss.backward()  # type: ignore[no-untyped-call]
    assert isinstance(trained, PretrainingModel)
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in trained.network.parameters())
    # The bias of a linear layer before a batch normalization has no effect, so only the last layer is checked.
    assert bool(trained.decoder[2].weight.grad.abs().sum() > 0)  # type: ignore[index, union-attr]
    assert not list(trained.frontend.parameters())


def test_the_scores_are_loss_bound_and_partners_found() -> None:
    trained = model().eval()
    contrastive = task(views=noisy)
    torch.manual_seed(3)
    scores = contrastive.scores(trained, batch()).detach()
    torch.manual_seed(3)
    a, b = (views.detach() for views in contrastive.project(trained, batch().x))
    torch.testing.assert_close(scores[:, 0], nt_xent(a, b))
    torch.testing.assert_close(scores[:, 1], math.log(15) - nt_xent(a, b))

    views = torch.nn.functional.normalize(torch.cat([a, b])).numpy()
    found = []
    for i, view in enumerate(views):
        cosines = views @ view
        cosines[i] = -2
        found.append(np.argmax(cosines) == (i + 8) % 16)
    np.testing.assert_allclose(scores[:, 2], np.reshape(found, (2, 8)).mean(axis=0))


def test_the_metrics_are_means_with_intervals_around_them() -> None:
    rng = np.random.default_rng(0)
    p = rng.normal(size=(40, 3))
    metrics = task().metrics(np.zeros((40, 0)), p, ())
    assert list(metrics) == ["loss", "mutual_information", "partner_found"]
    np.testing.assert_allclose(list(metrics.values()), p.mean(axis=0))
    for name, interval in task().intervals(np.zeros((40, 0)), p, np.arange(40) // 2, seed=0).items():
        assert interval.low < metrics[name] < interval.high
        # The standard error of a mean of 40 values with standard deviation 1 is 0.16.
        assert 0.4 < interval.high - interval.low < 0.9


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dims": 0}, "task.dims=0: expected a number of 1 or more"),
        ({"pairs": "person"}, "task.pairs=person: expected record or patient"),
        ({"objective": focal}, "loss=focal: it is a loss of classes, and this task reads no labels"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        task(**options)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss.temperature=0"):
        nt_xent(torch.eye(2), torch.eye(2), temperature=0)
    with pytest.raises(UserError, match=r"loss=nt_xent: .* expected task=contrastive"):
        nt_xent(torch.eye(2), torch.eye(2), output="sigmoid")
