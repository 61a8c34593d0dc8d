"""A split on the device, and the batches made there: a pure function of seed, epoch and step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.data.store import MILLIVOLT_PER_COUNT
from einthoven.errors import UserError

_MASK = (1 << 63) - 1


@dataclass(frozen=True)
class Batch:
    """What a task sees of the data at one step.

    Attributes
    ----------
    x : Tensor, float32 (B, 12, T)
        Signals in mV.
    y : Tensor, float32 (B, K)
        Labels.
    index : Tensor, int64 (B,)
        Row of each record in its split.
    valid : Tensor, bool (B,)
        False where a row only fills up the last batch.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    valid: Tensor


@dataclass(frozen=True)
class DeviceSplit:
    """A split packed on the device: int16 µV signals (n, 12, T) and float32 labels (n, K)."""

    signals: Tensor
    labels: Tensor

    @classmethod
    def load(
        cls,
        signals: NDArray[np.int16],
        rows: NDArray[np.int64],
        labels: NDArray[np.uint8],
        device: torch.device,
    ) -> DeviceSplit:
        """Read the given rows of a store once, and move them to the device."""
        packed = torch.from_numpy(np.ascontiguousarray(signals[rows]))
        return cls(packed.to(device), torch.from_numpy(labels.astype(np.float32)).to(device))

    def __len__(self) -> int:
        return len(self.signals)

    @property
    def samples(self) -> int:
        """Samples per record, T."""
        return int(self.signals.shape[-1])

    def take(self, index: Tensor, window: int, start: Tensor | None = None) -> Tensor:
        """Signals of some records in mV, cropped to `window` samples from `start` (B,), or from the beginning."""
        signals = self.signals[index]
        if start is None:
            signals = signals[..., :window]
        elif window < self.samples:
            offsets = start[:, None] + torch.arange(window, device=start.device)
            signals = signals.gather(-1, offsets[:, None, :].expand(-1, signals.shape[1], -1))
        return signals.to(torch.float32) * MILLIVOLT_PER_COUNT


def training_batches(split: DeviceSplit, *, size: int, window: int, seed: int, epoch: int) -> Iterator[Batch]:
    """Shuffled batches of one epoch, each record cropped at a random place to `window` samples.

    The records beyond the last full batch sit this epoch out (another shuffle, other records): batch
    normalization then never sees a batch of one. A split smaller than `size` is one batch.
    """
    device, n = split.signals.device, len(split)
    generator = torch.Generator().manual_seed(mix(seed, epoch, 0))
    order = torch.randperm(n, generator=generator).to(device)
    starts = torch.randint(split.samples - window + 1, (n,), generator=generator).to(device)
    size = min(size, n)
    valid = torch.ones(size, dtype=torch.bool, device=device)
    for first in range(0, n - size + 1, size):
        index = order[first : first + size]
        yield Batch(split.take(index, window, starts[index]), split.labels[index], index, valid)


def evaluation_batches(split: DeviceSplit, *, size: int) -> Iterator[Batch]:
    """Whole records in order; the last batch is filled up with its last record, marked not valid."""
    device, n = split.signals.device, len(split)
    for first in range(0, n, size):
        row = torch.arange(first, first + size, device=device)
        index = row.clamp(max=n - 1)
        yield Batch(split.take(index, split.samples), split.labels[index], index, row < n)


def windows(x: Tensor, window: int, stride: int) -> Tensor:
    """Cut (B, C, T) into windows: (B, W, C, window), the last one ending at T."""
    last = x.shape[-1] - window
    if last < 0:
        raise UserError(f"a window of {window} samples is longer than the records, which have {x.shape[-1]}.")
    starts = list(range(0, last + 1, stride))
    if starts[-1] != last:
        starts.append(last)
    return torch.stack([x[..., s : s + window] for s in starts], dim=1)


def mix(seed: int, epoch: int, step: int) -> int:
    """One 63-bit seed from (seed, epoch, step), well spread (splitmix64, Steele et al. 2014)."""
    value = 0
    for part in (seed, epoch, step):
        value = (value + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 31
    return value & _MASK
