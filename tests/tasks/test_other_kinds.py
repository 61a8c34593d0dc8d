"""Tasks of other kinds go through the same loop: a mask, the signal itself, two views. They live here alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.contracts import Batch, Position, Predictions, Task
from einthoven.data.store.batches import evaluation_batches, training_batches
from einthoven.data.store.splits import DeviceSplit
from einthoven.losses.contrastive import nt_xent
from einthoven.losses.overlap import dice_cross_entropy
from einthoven.losses.regression import mse
from einthoven.optim.optimizers import adamw
from einthoven.optim.penalties import Penalty
from einthoven.training.callbacks import Callbacks
from einthoven.training.checks import TrainingChecks
from einthoven.training.evaluate import evaluate
from einthoven.training.loop import fit
from einthoven.training.memory import MicroBatch
from einthoven.training.step import train_step


def mean_of_valid(per_record: Tensor, batch: Batch) -> Tensor:
    return (per_record * batch.valid).sum() / batch.valid.sum()


class Mask:
    """Where the beats are: a logit for each sample."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = model(batch.x)
        return mean_of_valid(dice_cross_entropy(logits, batch.y), batch), logits

    def goal(self, batch: Batch) -> Tensor:
        return batch.y

    def activation(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()


class Reconstruction:
    """The signal from what is left of it; the labels are not looked at."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        kept = torch.rand_like(batch.x[:, :1]) > 0.2  # the loop has seeded this
        outputs = model(batch.x * kept)
        return mean_of_valid(mse(outputs, batch.x), batch), outputs

    def goal(self, batch: Batch) -> Tensor:
        return batch.x

    def activation(self, outputs: Tensor) -> Tensor:
        return outputs


class Views:
    """Two views of a record are to be told from those of others."""

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        first, second = (model(batch.x + 0.1 * torch.randn_like(batch.x)).mean(dim=2) for _ in range(2))
        return nt_xent(first, second).mean(), first

    def goal(self, batch: Batch) -> Tensor:
        return batch.index

    def activation(self, outputs: Tensor) -> Tensor:
        return outputs


N, T = 32, 200


@pytest.fixture(scope="module")
def split() -> DeviceSplit:
    """Records of two leads with three bumps each, and the mask of the bumps."""
    rng = np.random.default_rng(0)
    places = rng.integers(15, T - 15, (N, 3))
    distance = np.abs(np.arange(T) - places[..., None]).min(axis=1)
    bumps = np.exp(-0.5 * (distance / 3) ** 2)
    signals = 1000 * np.stack([bumps, -0.5 * bumps], axis=1) + rng.normal(0, 50, (N, 2, T))
    mask = (distance <= 4)[:, None].astype(np.uint8)
    return DeviceSplit.load(signals.astype(np.int16), np.arange(N), mask, torch.device("cpu"))


def network(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(2, 8, 9, padding=4), nn.ReLU(), nn.Conv1d(8, outputs, 9, padding=4))


def trained(
    task: Task, model: nn.Module, split: DeviceSplit, micro_batch: int | None = None
) -> tuple[list[float], Predictions]:
    """The loss of each step, and what the trained model says of whole records."""
    losses: list[float] = []

    def batches(epoch: int, first: int) -> Iterator[Batch]:
        return training_batches(split, size=16, window=100, seed=0, epoch=epoch, first=first)

    def record(step: int, seen: Mapping[str, Tensor | float]) -> None:
        losses.extend([float(seen["train/loss"])] if "train/loss" in seen else [])

    optimizer = adamw(model, lr=0.02, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-8)
    fit(
        model,
        optimizer,
        partial(
            train_step,
            model,
            task,
            optimizer=optimizer,
            augment=lambda x, y, generator: (x, y),
            autocast=contextlib.nullcontext,
            clip_norm=math.inf,
            penalty=Penalty(),
            micro_batch=MicroBatch(micro_batch),
        ),
        batches,
        lambda step, total: 1.0,
        Callbacks(record, lambda: {}, lambda position, best: None),
        TrainingChecks(model, Position()),
        position=Position(),
        epochs=20,
        steps_per_epoch=2,
        step_seed=lambda epoch, step: step,
        monitor="val/loss",
        patience=None,
    )
    return losses, evaluate(
        model,
        task,
        evaluation_batches(split, size=20),
        window=T,
        stride=T,
        aggregate="mean",
        autocast=contextlib.nullcontext,
    )


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_a_mask_is_cropped_with_its_signal_and_learned(split: DeviceSplit, micro_batch: int | None) -> None:
    losses, found = trained(Mask(), network(1), split, micro_batch)
    assert found.y.shape == found.p.shape == (N, 1, T)
    np.testing.assert_array_equal(found.y, split.labels)
    overlap = 2 * found.p[found.y == 1].sum() / (found.p.sum() + found.y.sum())
    assert losses[-1] < 0.5 * losses[0] and overlap > 0.8


def test_the_signal_itself_is_a_goal(split: DeviceSplit) -> None:
    losses, found = trained(Reconstruction(), network(2), split)
    assert found.y.shape == found.p.shape == (N, 2, T)
    error, size = np.square(found.p - found.y).mean(), np.square(found.y - found.y.mean()).mean()
    assert losses[-1] < 0.5 * losses[0] and error < 0.2 * size


def test_views_are_told_apart(split: DeviceSplit) -> None:
    losses, found = trained(Views(), network(4), split)
    assert found.p.shape[0] == N and found.y.tolist() == list(range(N))
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.1


@pytest.mark.parametrize("window", [60, T])
def test_a_mask_stays_with_its_samples(split: DeviceSplit, window: int) -> None:
    for batch in training_batches(split, size=8, window=window, seed=3, epoch=1):
        assert batch.y.shape == (8, 1, window)
        for x, y, index in zip(batch.x, batch.y, batch.index, strict=True):
            whole = split.take(index[None], T)[0]
            (start,) = [s for s in range(T - window + 1) if torch.equal(whole[:, s : s + window], x)]
            assert torch.equal(split.labels[index][:, start : start + window], y)
