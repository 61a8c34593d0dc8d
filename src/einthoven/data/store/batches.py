"""A split on the device, and the batches made there: a pure function of seed, epoch and step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.contracts import Batch
from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT
from einthoven.data.store.signals import Signals, read_rows
from einthoven.errors import UserError

_MASK = (1 << 63) - 1


class Split(Protocol):
    """Records of one split, wherever their signals are."""

    @property
    def labels(self) -> Tensor:
        """Labels or quantities, float32 (n, K), or masks (n, C, T), on the device."""

    def __len__(self) -> int:
        """Records, n."""

    @property
    def samples(self) -> int:
        """Samples per record, T."""

    def take(self, index: Tensor, window: int, start: Tensor | None = None) -> Tensor:
        """Signals of some records in mV, cropped to `window` samples from `start` (B,), or from the beginning."""

    def shuffled(self, drawn: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """The drawn records (ascending) in the random order in which batches of `size` are to be served."""

    def serve(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Records in this order, `size` at a time: their index and their int16 signals, on the device."""

    def chunks(self) -> Iterator[NDArray[np.int16]]:
        """All signals, some hundred records at a time, on the host."""


@dataclass(frozen=True)
class DeviceSplit:
    """A split packed on the device: int16 µV signals (n, L, T) and float32 labels, as in `Split`."""

    signals: Tensor
    labels: Tensor

    @classmethod
    def load(
        cls,
        signals: Signals | NDArray[np.int16],
        rows: NDArray[np.int64],
        labels: NDArray[np.generic],
        device: torch.device,
    ) -> DeviceSplit:
        """Read the given rows of a store once, and move them to the device."""
        packed = torch.from_numpy(read_rows(signals, rows))
        return cls(packed.to(device), torch.from_numpy(labels.astype(np.float32)).to(device))

    def __len__(self) -> int:
        return len(self.signals)

    @property
    def samples(self) -> int:
        """Samples per record, T."""
        return int(self.signals.shape[-1])

    def take(self, index: Tensor, window: int, start: Tensor | None = None) -> Tensor:
        """Signals of some records in mV, cropped to `window` samples from `start` (B,), or from the beginning."""
        return crop(self.signals.index_select(0, index), window, start)

    def shuffled(self, drawn: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """The drawn records in random order."""
        return drawn[torch.randperm(len(drawn), generator=generator)]

    def serve(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Records in this order, `size` at a time."""
        order = order.to(self.signals.device)
        for index in torch.split(order, size):
            yield index, self.signals.index_select(0, index)  # on a CPU several times as fast as [index]

    def chunks(self) -> Iterator[NDArray[np.int16]]:
        """All signals, some hundred records at a time, on the host."""
        return (part.cpu().numpy() for part in torch.split(self.signals, 256))


def crop(signals: Tensor, window: int, start: Tensor | None = None) -> Tensor:
    """int16 µV (B, L, T) -> mV (B, L, window), from `start` (B,) on, or from the beginning."""
    if start is None:
        signals = signals[..., :window]
    elif window < signals.shape[-1]:
        signals = piece(signals, window, start)
    return signals.to(torch.float32).mul_(MILLIVOLT_PER_COUNT)  # in place: new memory would have to be cleared


def piece(x: Tensor, window: int, start: Tensor) -> Tensor:
    """Samples from `start` (B,) on of (B, C, T): (B, C, window)."""
    offsets = start[:, None] + torch.arange(window, device=start.device)
    return x.gather(-1, offsets[:, None, :].expand(-1, x.shape[1], -1))


def training_batches(
    split: Split, *, size: int, window: int, seed: int, epoch: int, sampler: str = "shuffle"
) -> Iterator[Batch]:
    """Shuffled batches of one epoch, each record cropped at a random place to `window` samples.

    The records beyond the last full batch sit this epoch out (another shuffle, other records): batch
    normalization then never sees a batch of one. A split smaller than `size` is one batch.

    Parameters
    ----------
    sampler : str
        ``shuffle``: each record once. ``balanced``: as many draws, with replacement and `balanced_weights`.
    """
    device, n = split.labels.device, len(split)
    generator = torch.Generator().manual_seed(mix(seed, epoch, 0))
    size = min(size, n)
    drawn = torch.arange(n)
    if sampler == "balanced":
        weights = balanced_weights(split.labels.cpu())
        # the inverse of the distribution function: torch.multinomial takes no more than 2**24 weights
        uniform = torch.rand(n, generator=generator, dtype=torch.float64)
        drawn = torch.searchsorted(weights.cumsum(0), uniform).clamp(max=n - 1).sort().values
    order = split.shuffled(drawn, size, generator)
    starts = torch.randint(split.samples - window + 1, (n,), generator=generator).to(device)
    valid = torch.ones(size, dtype=torch.bool, device=device)
    for number, (index, signals) in enumerate(split.serve(order[: n - n % size], size)):
        start = starts[number * size : (number + 1) * size]
        y = split.labels[index]
        if y.ndim == 3:  # a mask
            y = piece(y, window, start)
        yield Batch(crop(signals, window, start), y, index, valid)


def balanced_weights(labels: Tensor) -> Tensor:
    """Weight of each record, from labels (n, K) of 0 and 1: the sum over its classes of one over their records.

    The weights sum to 1. With one label a record every class is drawn equally often; records without a label are a
    class of their own. It is the limit beta -> 1 of weights by the effective number of samples,
    (1 - beta) / (1 - beta^n) (Cui et al. 2019, "Class-balanced loss based on effective number of samples").

    Raises
    ------
    UserError
        If the labels are not classes.
    """
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise UserError("trainer.sampler=balanced: the labels of this task are no classes; expected shuffle.")
    classes = torch.cat([labels, (labels.sum(dim=1, keepdim=True) == 0).to(labels.dtype)], dim=1).double()
    weights = (classes / classes.sum(dim=0).clamp(min=1)).sum(dim=1)
    return weights / weights.sum()


def evaluation_batches(split: Split, *, size: int) -> Iterator[Batch]:
    """Whole records in order; the last batch is filled up with its last record, marked not valid."""
    n = len(split)
    order = torch.arange(-(-n // size) * size)
    for number, (index, signals) in enumerate(split.serve(order.clamp(max=n - 1), size)):
        valid = torch.arange(number * size, (number + 1) * size, device=index.device) < n
        yield Batch(crop(signals, split.samples), split.labels[index], index, valid)


def mix(seed: int, epoch: int, step: int) -> int:
    """One 63-bit seed from (seed, epoch, step), well spread (splitmix64, Steele et al. 2014)."""
    value = 0
    for part in (seed, epoch, step):
        value = (value + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 31
    return value & _MASK
