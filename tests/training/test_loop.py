from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.contracts import Batch, Position
from einthoven.errors import UserError
from einthoven.optim.optimizers import sgd
from einthoven.optim.penalties import Penalty
from einthoven.training.callbacks import Callbacks
from einthoven.training.checks import TrainingChecks
from einthoven.training.evaluate import evaluate
from einthoven.training.loop import fit
from einthoven.training.step import train_step


class LeastSquares:
    """A task with a closed form: the mean squared distance of the model's output from y."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        outputs = model(batch.x.flatten(1))
        return ((outputs - batch.y) ** 2).mean(), outputs

    def goal(self, batch: Batch) -> Tensor:
        return batch.y

    def activation(self, logits: Tensor) -> Tensor:
        return logits


def a_batch(seed: int = 0, size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 2, 3, generator=generator)
    return Batch(x, torch.randn(size, 1, generator=generator), torch.arange(size), torch.ones(size, dtype=torch.bool))


def same(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return x, y


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, clip_norm: float = math.inf
) -> dict[str, Tensor]:
    return train_step(
        model,
        LeastSquares(),
        batch,
        optimizer,
        augment=same,
        generator=torch.Generator(),
        autocast=contextlib.nullcontext,
        clip_norm=clip_norm,
        penalty=Penalty(),
    )


def test_a_step_is_the_gradient_times_the_learning_rate() -> None:
    model, batch = nn.Linear(6, 1, bias=False), a_batch()
    before = model.weight.detach().clone()
    x, y = batch.x.flatten(1), batch.y
    gradient = (2 / len(x)) * (x @ before.T - y).T @ x  # d/dw of the mean of (xw - y)^2, by hand
    seen = step(model, torch.optim.SGD(model.parameters(), lr=0.1), batch)
    torch.testing.assert_close(model.weight.detach(), before - 0.1 * gradient)
    torch.testing.assert_close(seen["watch/grad/norm"], gradient.norm())
    torch.testing.assert_close(seen["train/loss"], ((x @ before.T - y) ** 2).mean())


def test_the_gradient_is_clipped_and_its_norm_told_before() -> None:
    model, batch = nn.Linear(6, 1), a_batch()
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    seen = step(model, torch.optim.SGD(model.parameters(), lr=1.0), batch, clip_norm=0.01)
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert seen["watch/grad/norm"] > 0.01
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_an_optimizer_may_ask_for_the_gradient_several_times() -> None:
    """L-BFGS calls the closure many times in one step, and solves least squares in a few."""
    model, batch = nn.Linear(6, 1).double(), a_batch(size=32)
    batch = Batch(batch.x.double(), batch.y.double(), batch.index, batch.valid)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=50, line_search_fn="strong_wolfe")
    for _ in range(3):
        seen = step(model, optimizer, batch)
    x = np.column_stack([batch.x.flatten(1).numpy(), np.ones(32)])
    _, residual, _, _ = np.linalg.lstsq(x, batch.y.numpy(), rcond=None)
    assert float(seen["train/loss"]) == pytest.approx(float(residual[0]) / 32, rel=1e-6)


class MeanOfSignal(nn.Module):
    """One logit: the mean of the signal."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(1, 2))[:, None]


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_windows_are_predicted_one_by_one_and_aggregated(aggregate: str) -> None:
    x = torch.arange(2 * 10, dtype=torch.float32).reshape(2, 1, 10)
    valid = torch.tensor([True, False])
    batch = Batch(x, torch.ones(2, 1), torch.arange(2), valid)
    found = evaluate(
        MeanOfSignal(),
        LeastSquares(),
        [batch],
        window=4,
        stride=2,
        aggregate=aggregate,
        autocast=contextlib.nullcontext,
    )
    means = [np.mean(range(s, s + 4)) for s in (0, 2, 4, 6)]
    assert found.p.tolist() == [[max(means) if aggregate == "max" else np.mean(means)]]  # the padding is left out
    assert found.y.tolist() == [[1.0]]


def train(
    model: nn.Module, metrics: Iterator[dict[str, float]], **options: Any
) -> tuple[Position, list[tuple[int, bool]]]:
    saved: list[tuple[int, bool]] = []
    lr = options.pop("lr", 0.01)
    start = Position()
    optimizer = sgd(model, lr=lr, weight_decay=0.0)
    position = fit(
        model,
        optimizer,
        partial(
            train_step,
            model,
            LeastSquares(),
            optimizer=optimizer,
            augment=same,
            autocast=contextlib.nullcontext,
            clip_norm=math.inf,
            penalty=Penalty(),
        ),
        lambda epoch, first: [a_batch(epoch), a_batch(epoch + 100)][first:],
        options.pop("schedule", lambda step, total: 1.0),
        Callbacks(
            log_metrics=options.pop("record", lambda step, values: None),
            evaluate=lambda: next(metrics),
            save=lambda position, best: saved.append((position.epoch, best)),
        ),
        TrainingChecks(model, start),
        **{
            "position": start,
            "epochs": 5,
            "steps_per_epoch": 2,
            "step_seed": lambda epoch, step: epoch * 1000 + step,
            "monitor": "val/macro_auroc",
            "patience": None,
            **options,
        },
    )
    return position, saved


def values(*numbers: float) -> Iterator[dict[str, float]]:
    return ({"val/macro_auroc": number} for number in numbers)


def test_best_and_last_are_saved_and_early_stopping_waits_its_patience() -> None:
    position, saved = train(nn.Linear(6, 1), values(0.5, 0.7, 0.6, 0.65, 0.9), patience=2)
    assert saved == [(1, True), (2, True), (3, False), (4, False)]
    assert (position.epoch, position.best, position.best_epoch, position.stopped) == (4, 0.7, 2, True)


def test_without_patience_training_goes_to_the_end_and_needs_no_validation() -> None:
    position, saved = train(nn.Linear(6, 1), ({} for _ in range(5)), patience=None)
    assert saved == [(epoch, False) for epoch in range(1, 6)]
    assert position.step == 10


def test_the_schedule_multiplies_the_base_rate_at_every_step() -> None:
    rates: list[float] = []

    def record(step: int, seen: Any) -> None:
        if "watch/optim/lr" in seen:
            rates.append(seen["watch/optim/lr"])

    train(nn.Linear(6, 1), values(*[0.5] * 5), schedule=lambda step, total: step / total, lr=0.2, record=record)
    assert rates == pytest.approx([0.2 * k / 10 for k in range(10)])


def test_divergence_is_one_sentence() -> None:
    with pytest.raises(UserError, match="diverged"):
        train(nn.Linear(6, 1), values(*[0.5] * 5), lr=1e30)
