"""What a run of a pretext task does differently: its refusals, its pairs of records, and its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.augment.compose import Compose
from einthoven.augment.mix import CutMix, Mixup
from einthoven.augment.time import RandomCrop
from einthoven.contracts import Autocast, Batch, Predictions
from einthoven.data.store.batches import mix
from einthoven.data.store.splits import Split
from einthoven.errors import UserError
from einthoven.functional.windows import cut_windows
from einthoven.runs.config.settings import Settings
from einthoven.tasks.pretext import Pretext

PAIR_STEP = 2**40
"""A number that no step of a training reaches, for the seed of the pairs."""

Pair = Callable[[Batch, torch.Generator], Batch]
"""(batch, generator) -> the batch with two records in each row, x (B, 2, L, T)."""


def check_pretraining(task: Pretext, settings: Settings, augment: Any) -> None:
    """Refuse options that need labels, or that the loss of a pretext task does not allow."""
    trainer = settings.trainer
    if trainer.sampler == "balanced":
        raise UserError(f"trainer.sampler=balanced: task={task.name} reads no labels to balance; expected shuffle.")
    if trainer.aggregate == "max":
        raise UserError(
            f"trainer.aggregate=max: the largest of probabilities; of the scores of task={task.name}, expected mean."
        )
    transforms = augment.transforms if isinstance(augment, Compose) else {"augment": augment}
    for name, transform in transforms.items():
        if isinstance(transform, Mixup | CutMix):
            raise UserError(
                f"augment: {name} blends records and their labels, and task={task.name} reads no labels; leave it out "
                "(its probability=0)."
            )
        if isinstance(transform, RandomCrop) and task.needs_windows:
            raise UserError(
                f"augment: {name} changes the length of a record, and task={task.name} decodes windows of one length; "
                "expected trainer.window=SECONDS instead."
            )
    if not task.compares_records:
        return
    if trainer.micro_batch is not None:
        raise UserError(
            f"trainer.micro_batch={trainer.micro_batch}: task={task.name} compares the records of a batch with each "
            "other, so that parts of a batch have another loss; expected null, and a smaller trainer.batch_size."
        )
    if trainer.batch_size == 1:
        raise UserError(f"trainer.batch_size=1: task={task.name} compares records; expected 2 or more.")
    if settings.diagnostics.noise_scale is not None:
        raise UserError(
            f"diagnostics.noise_scale={settings.diagnostics.noise_scale}: task={task.name} compares the records of a "
            "batch with each other, so that parts of a batch have another loss; expected null."
        )


def check_patients(patients: NDArray[np.int64]) -> None:
    """Refuse pairs of records of one patient if no patient (n,) has several records."""
    if len(np.unique(patients)) == len(patients):
        raise UserError(
            f"task.pairs=patient: each of the {len(patients)} training records is of another patient; expected "
            "task.pairs=record, or data whose table names patients with several records."
        )


def pair_by_patient(split: Split, patients: NDArray[np.int64]) -> Pair:
    """Return the function that adds a random other record of the same patient (n,) to each record of a batch.

    A record whose patient has no other record is its own partner.
    """
    # Records of a patient are neighbours in `order`.
    order = np.argsort(patients, kind="stable")
    _, first_of_group, group, count_of_group = np.unique(
        patients[order], return_index=True, return_inverse=True, return_counts=True
    )
    place_in_order = np.argsort(order)
    first = torch.from_numpy(first_of_group[group][place_in_order])
    count = torch.from_numpy(count_of_group[group][place_in_order])
    place = torch.from_numpy(place_in_order) - first
    row_in_order = torch.from_numpy(order)

    def pair(batch: Batch, generator: torch.Generator) -> Batch:
        # Device-to-host sync, once per batch.
        rows = batch.index.cpu()
        # A distance of 1 to count - 1 within the group; 0 if the group is one record.
        others = count[rows] - 1
        distance = 1 + (torch.rand(len(rows), generator=generator) * others).long()
        distance = torch.where(others > 0, distance.minimum(others), 0)
        partner = row_in_order[first[rows] + (place[rows] + distance) % count[rows]].to(batch.index.device)
        window = batch.x.shape[-1]
        starts = torch.randint(split.samples - window + 1, (len(rows),), generator=generator)
        partner_x = split.take(partner, window, starts.to(batch.index.device))
        return replace(batch, x=torch.stack([batch.x, partner_x], dim=1))

    return pair


def pair_batches(batches: Iterable[Batch], pair: Pair, seed: int, epoch: int, first: int = 0) -> Iterator[Batch]:
    """Add a second record to each record of the batches of an epoch.

    The pairs of a batch are a function of the seed, the epoch and the number of the batch. `first` is the number of the
    first one.
    """
    generator = torch.Generator()
    for number, batch in enumerate(batches, start=first):
        # `training_batches` and the steps take their seeds from the steps of the epoch. The pairs get others.
        generator.manual_seed(mix(seed, epoch, PAIR_STEP + number))
        yield pair(batch, generator)


@torch.no_grad()
def evaluate_pretext(
    model: nn.Module,
    task: Pretext,
    batches: Iterable[Batch],
    *,
    window: int,
    stride: int,
    autocast: Autocast,
    seed: int,
    pair: Pair | None = None,
) -> Predictions:
    """Return the scores (n, M) that `task.score_names` names, in place of predictions: the mean over the windows.

    The random numbers of views and masks are the same in each evaluation, so that evaluations can be compared. A loss
    that compares records compares windows of different records at the same place. `pair` adds a second record to each
    record.
    """
    model.eval()
    scores = []
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed, next(model.parameters()).device):
        for batch in batches:
            # Device-to-host sync, once per batch of an evaluation. Only the last batch has rows that are not valid.
            count = int(batch.valid.sum())
            records = batch if pair is None else pair(batch, generator)
            windows = cut_windows(records.x[:count], window, stride)
            of_windows = []
            for x in windows.unbind(1):
                with autocast():
                    of_windows.append(task.scores(model, _first_rows(batch, count, x)))
            scores.append(torch.stack(of_windows).double().mean(dim=0).cpu())
    p = torch.cat(scores).numpy()
    return Predictions(np.zeros((len(p), 0)), p)


def _first_rows(batch: Batch, count: int, x: Tensor) -> Batch:
    """Return the first rows of a batch, with other signals."""
    return Batch(x, batch.y[:count], batch.index[:count], batch.valid[:count])


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators, and restore their states when the block ends."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
