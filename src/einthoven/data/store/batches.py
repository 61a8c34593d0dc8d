"""Training and evaluation batches of a split, as a pure function of seed, epoch and step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from einthoven.contracts import Batch
from einthoven.data.store.splits import Split, crop, take_samples
from einthoven.errors import UserError

_MASK = (1 << 63) - 1


def training_batches(
    split: Split, *, size: int, window: int, seed: int, epoch: int, sampler: str = "shuffle", first: int = 0
) -> Iterator[Batch]:
    """Yield the shuffled batches of one epoch; each record is cropped to `window` samples at a random place.

    The records after the last full batch are not used in this epoch. The next epoch has another order, and so leaves
    out other records. Batch normalization therefore never sees a batch of one record. A split with fewer than `size`
    records is one batch.

    Parameters
    ----------
    split : Split
    size : int
        Records of a batch, B.
    window : int
        Samples of a cropped record, T.
    seed, epoch : int
        The batches are a function of both.
    sampler : str
        ``shuffle``: each record once. ``balanced``: n draws with replacement and `balanced_weights`.
    first : int
        Number of the first batch. Those before it are not read. A run that is resumed within an epoch needs this.
    """
    device = split.labels.device
    n = len(split)
    generator = torch.Generator().manual_seed(mix(seed, epoch, 0))
    size = min(size, n)
    drawn = torch.arange(n)
    if sampler == "balanced":
        # Device-to-host sync, once per epoch.
        weights = balanced_weights(split.labels.cpu())
        # Draw with the inverse of the distribution function: torch.multinomial takes at most 2**24 weights.
        uniform = torch.rand(n, generator=generator, dtype=torch.float64)
        drawn = torch.searchsorted(weights.cumsum(0), uniform).clamp(max=n - 1).sort().values
    # Order and starts come from one generator on the CPU, so that they are the same on each device.
    order = split.shuffled(drawn, size, generator)
    starts = torch.randint(split.samples - window + 1, (n,), generator=generator).to(device)
    valid = torch.ones(size, dtype=torch.bool, device=device)
    order = order[first * size : n - n % size]
    if not len(order):
        return
    for number, (index, signals) in enumerate(split.serve(order, size), start=first):
        start = starts[number * size : (number + 1) * size]
        y = split.labels[index]
        # A mask (B, C, T) is cropped like its signal.
        if y.ndim == 3:
            y = take_samples(y, window, start)
        yield Batch(crop(signals, window, start), y, index, valid)


def balanced_weights(labels: Tensor) -> Tensor:
    """Return a weight per record from labels (n, K) of 0 and 1: the sum of 1 / (records of the class) over its classes.

    The weights sum to 1. If each record has one label, all classes are drawn equally often. Records without a label
    are one more class. The weights are the limit beta -> 1 of weights by the effective number of samples,
    (1 - beta) / (1 - beta^n) (Cui et al. 2019, "Class-balanced loss based on effective number of samples").

    Raises
    ------
    UserError
        If the labels are not classes.
    """
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise UserError("trainer.sampler=balanced: the labels of this task are no classes; expected shuffle.")
    is_unlabelled = (labels.sum(dim=1, keepdim=True) == 0).to(labels.dtype)
    classes = torch.cat([labels, is_unlabelled], dim=1).double()
    weights = (classes / classes.sum(dim=0).clamp(min=1)).sum(dim=1)
    return weights / weights.sum()


def evaluation_batches(split: Split, *, size: int) -> Iterator[Batch]:
    """Yield whole records in order; copies of the last record, marked as not valid, fill up the last batch."""
    n = len(split)
    order = torch.arange(-(-n // size) * size)
    for number, (index, signals) in enumerate(split.serve(order.clamp(max=n - 1), size)):
        valid = torch.arange(number * size, (number + 1) * size, device=index.device) < n
        yield Batch(crop(signals, split.samples), split.labels[index], index, valid)


def mix(seed: int, epoch: int, step: int) -> int:
    """Return one 63-bit seed from (seed, epoch, step), well spread (splitmix64, Steele et al. 2014)."""
    value = 0
    for part in (seed, epoch, step):
        value = (value + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 31
    return value & _MASK
