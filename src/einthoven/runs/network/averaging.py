"""The average of the weights of a run, with the statistics of its batch norms."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch

from einthoven.contracts import Batch
from einthoven.data.store.batches import mix, training_batches
from einthoven.diagnostics.step import StepDiagnostics
from einthoven.errors import UserError
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.network.pretraining import pair_batches
from einthoven.training.accumulation import split_batch
from einthoven.training.averaging import WeightAverage
from einthoven.training.batch_norm import recompute_statistics

STATISTICS_RECORDS = 1024
"""The statistics of batch norms are computed on about this many training records.

A training with batches of 32 and the usual momentum of 0.1 averages over fewer records.
"""


def average_of(run: NetworkParts, diagnose: StepDiagnostics) -> WeightAverage | None:
    """Return the average of the weights that the options of a run ask for; None if they ask for none.

    Raises a `UserError` if the optimizer averages the weights itself.
    """
    trainer = run.settings.trainer
    if trainer.ema is None and trainer.swa is None:
        return None
    if hasattr(run.optimizer, "eval"):
        option = f"trainer.ema={trainer.ema}" if trainer.swa is None else f"trainer.swa={trainer.swa}"
        raise UserError(
            f"{option}: the optimizer of this run is schedule-free, and evaluates an average of its weights already; "
            "expected null, or another optimizer."
        )

    def recompute() -> None:
        with diagnose.paused():
            seed = mix(run.settings.seed, 0, 0)
            parts = training_parts(run, STATISTICS_RECORDS)
            recompute_statistics(run.model, parts, lambda part: _forward(run, part), seed)

    if trainer.ema is not None:
        return WeightAverage(run.model, decay=trainer.ema, first_step=1, interval=1, recompute=recompute)
    assert trainer.swa is not None
    first_step = (trainer.epochs - trainer.swa + 1) * run.steps_per_epoch
    interval = run.steps_per_epoch
    return WeightAverage(run.model, decay=1.0, first_step=first_step, interval=interval, recompute=recompute)


def training_parts(run: NetworkParts, records: int) -> Iterator[Batch]:
    """Yield the first batches of the first epoch, of at least so many records, augmented and split as in training."""
    seed = run.settings.seed
    drawn = training_batches(
        run.data.splits["train"],
        size=run.batch_size,
        window=run.window,
        seed=seed,
        epoch=0,
        sampler=run.settings.trainer.sampler,
    )
    pair = run.pair("train")
    batches = drawn if pair is None else pair_batches(drawn, pair, seed, 0)
    generator = torch.Generator(run.device)
    count = -(-records // run.batch_size)
    for number, batch in enumerate(islice(batches, count)):
        generator.manual_seed(mix(seed, 0, number))
        x, y = run.augment(batch.x, batch.y, generator)
        yield from split_batch(Batch(x, y, batch.index, batch.valid), run.micro_batch.size)


def _forward(run: NetworkParts, part: Batch) -> None:
    """Pass a part of a batch through the model, as in training."""
    with run.processes.share(run.model), run.autocast():
        run.task.loss(run.model, part)
