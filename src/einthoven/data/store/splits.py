"""The records of one split, with their signals on the device or on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven import machine
from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT
from einthoven.data.store.signals import Signals, read_rows

BLOCK_BYTES = 2**19
"""Size of the neighbouring signals that are read together."""

BUFFER_BYTES = 2**27
"""Size of the signals among which records are shuffled. Two buffers are in memory."""

PORTION_BYTES = 2**26
"""Size of the signals that are on the host at once, while a split is moved to a GPU."""

RECORDS_PER_CHUNK = 256
"""Number of records that `chunks` yields at a time."""


@dataclass(frozen=True)
class DeviceSplit:
    """A split that is in the memory of the device. Several splits, and several runs, may share their signals.

    Attributes
    ----------
    signals : Tensor, int16 µV (N, L, T)
        It is never written to.
    labels : Tensor, float32
        Labels or quantities (n, K), or masks (n, C, T).
    places : Tensor, int64 (n,), or None
        Where the records of the split are in `signals`. None: they are all of them, in their order.
    """

    signals: Tensor
    labels: Tensor
    places: Tensor | None = None

    @classmethod
    def load(
        cls,
        signals: Signals | NDArray[np.int16],
        rows: NDArray[np.int64],
        labels: NDArray[np.generic],
        device: torch.device,
    ) -> DeviceSplit:
        """Read some rows of a store into the memory of the device. The host never holds all of them for a GPU."""
        return cls(load_rows(signals, rows, device), torch.from_numpy(labels.astype(np.float32)).to(device))

    @classmethod
    def of_loaded(cls, signals: Tensor, places: NDArray[np.int64], labels: NDArray[np.generic]) -> DeviceSplit:
        """Return a split of signals that are on the device already. Parameters as in the class."""
        y = torch.from_numpy(labels.astype(np.float32))
        return cls(signals, y.to(signals.device), torch.from_numpy(places).to(signals.device))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def samples(self) -> int:
        """Samples per record, T."""
        return int(self.signals.shape[-1])

    def take(self, index: Tensor, window: int, start: Tensor | None = None) -> Tensor:
        """Return signals of some records in mV, cropped to `window` samples from `start` (B,) on (None: from 0)."""
        return crop(self._select(index), window, start)

    def shuffled(self, drawn: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Return the drawn records (ascending) in random order."""
        return drawn[torch.randperm(len(drawn), generator=generator)]

    def serve(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `size` records at a time, in this order: their index and their int16 signals, on the device."""
        order = order.to(self.signals.device)
        for index in torch.split(order, size):
            yield index, self._select(index)

    def chunks(self) -> Iterator[NDArray[np.int16]]:
        """Yield all signals, a few hundred records at a time, on the host."""
        for index in torch.split(torch.arange(len(self), device=self.signals.device), RECORDS_PER_CHUNK):
            # Device-to-host sync.
            yield self._select(index).cpu().numpy()

    def _select(self, index: Tensor) -> Tensor:
        """Return a copy of the signals of some records."""
        places = index if self.places is None else self.places.index_select(0, index)
        # On a CPU, `index_select` is several times as fast as an index in brackets.
        return self.signals.index_select(0, places)


@dataclass(frozen=True)
class StreamedSplit:
    """A split whose signals stay on the disk. One buffer of signals is in memory while the next one is being read.

    The store is cut into blocks of neighbouring records. An epoch takes the blocks in random order, fills the buffer
    with blocks, and shuffles the records in the buffer. Two records of one block are in the same batch of B records
    with probability (B - 1)/(buffer - 1), where `buffer` counts records; in a full shuffle it would be (B - 1)/(n - 1).

    Attributes
    ----------
    signals : Signals or ndarray of int16, (rows of the store, L, T)
    rows : ndarray of int64, shape (n,)
        Rows of the split in the store; ascending rows are read fastest.
    labels : Tensor, float32 (n, K)
        On the device.
    block, buffer : int
        Number of records of a block and of a buffer.
    """

    signals: Signals | NDArray[np.int16]
    rows: NDArray[np.int64]
    labels: Tensor
    block: int
    buffer: int

    @classmethod
    def open(
        cls,
        signals: Signals | NDArray[np.int16],
        rows: NDArray[np.int64],
        labels: NDArray[np.uint8],
        device: torch.device,
    ) -> StreamedSplit:
        """Return a split with blocks and buffers of the usual sizes; nothing is read yet."""
        record_bytes = 2 * signals.shape[1] * signals.shape[2]
        return cls(
            signals,
            rows,
            labels=torch.from_numpy(labels.astype(np.float32)).to(device),
            block=max(1, BLOCK_BYTES // record_bytes),
            buffer=max(1, BUFFER_BYTES // record_bytes),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def samples(self) -> int:
        """Samples per record, T."""
        return int(self.signals.shape[-1])

    def take(self, index: Tensor, window: int, start: Tensor | None = None) -> Tensor:
        """Return signals of some records in mV, cropped to `window` samples from `start` (B,) on (None: from 0)."""
        # Device-to-host sync.
        signals = read_rows(self.signals, self.rows[index.cpu().numpy()])
        return crop(torch.from_numpy(signals).to(self.labels.device), window, start)

    def shuffled(self, drawn: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Return the drawn records (ascending): the blocks in random order, the records of a buffer in random order."""
        blocks = torch.split(drawn, self.block)
        order = torch.cat([blocks[k] for k in torch.randperm(len(blocks), generator=generator).tolist()])
        parts = torch.split(order, self._portion(size))
        return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in parts])

    def serve(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `size` records at a time, in this order. The next buffer is read while this one is served."""
        device = self.labels.device
        parts = torch.split(order, self._portion(size))
        shape = (min(self._portion(size), len(order)), *self.signals.shape[1:])
        # Two buffers are used in turn: new memory would have to be cleared first.
        buffers = [np.empty(shape, np.int16) for _ in parts[:2]]
        # A thread is enough, because reading releases the interpreter lock.
        with ThreadPoolExecutor(1) as reader:
            next_part = reader.submit(self._read, parts[0], buffers[0])
            for number, part in enumerate(parts):
                signals, position = next_part.result()
                if number + 1 < len(parts):
                    next_part = reader.submit(self._read, parts[number + 1], buffers[(number + 1) % 2])
                for index, rows in zip(torch.split(part, size), torch.split(position, size), strict=True):
                    yield send(index, device), send(signals.index_select(0, rows), device)

    def chunks(self) -> Iterator[NDArray[np.int16]]:
        """Yield all signals, a few hundred records at a time."""
        for first in range(0, len(self), RECORDS_PER_CHUNK):
            yield read_rows(self.signals, self.rows[first : first + RECORDS_PER_CHUNK])

    def _portion(self, size: int) -> int:
        """Return the number of records that are read at once: whole batches of `size`."""
        return max(1, self.buffer // size) * size

    def _read(self, index: Tensor, buffer: NDArray[np.int16]) -> tuple[Tensor, Tensor]:
        """Return the signals of these records in the order of the store, each once, and the position of each record."""
        rows, position = np.unique(self.rows[index.numpy()], return_inverse=True)
        signals = read_rows(self.signals, rows, buffer[: len(rows)])
        return torch.from_numpy(signals), torch.from_numpy(position)


Split = DeviceSplit | StreamedSplit
"""The records of one split. Both classes have the same methods."""


def load_rows(signals: Signals | NDArray[np.int16], rows: NDArray[np.int64], device: torch.device) -> Tensor:
    """Read some rows of a store into the memory of a device. The host never holds all of them for a GPU."""
    if is_host(device):
        return torch.from_numpy(read_rows(signals, rows))
    shape = signals.shape[1:]
    packed = torch.empty((len(rows), *shape), dtype=torch.int16, device=device)
    portion = max(1, PORTION_BYTES // (2 * shape[0] * shape[1]))
    # One buffer is used for all portions. A copy from pinned memory is faster.
    buffer = torch.empty((min(portion, len(rows)), *shape), dtype=torch.int16, pin_memory=device.type == "cuda")
    for first in range(0, len(rows), portion):
        part = rows[first : first + portion]
        read_rows(signals, part, buffer.numpy()[: len(part)])
        packed[first : first + len(part)].copy_(buffer[: len(part)])
    return packed


def is_host(device: torch.device) -> bool:
    """Return whether the memory of a device is that of the host."""
    return device.type == "cpu"


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy values of the host to the device. The host does not wait for a GPU."""
    if device.type == "cuda":
        # Only a copy from pinned memory can run beside the host.
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def crop(signals: Tensor, window: int, start: Tensor | None = None) -> Tensor:
    """Crop int16 µV (B, L, T) to mV (B, L, window), from `start` (B,) on (None: from sample 0)."""
    if start is None:
        signals = signals[..., :window]
    elif window < signals.shape[-1]:
        signals = take_samples(signals, window, start)
    # Multiply in place: new memory would have to be cleared first.
    return signals.to(torch.float32).mul_(MILLIVOLT_PER_COUNT)


def take_samples(x: Tensor, window: int, start: Tensor) -> Tensor:
    """Return the samples of (B, C, T) from `start` (B,) on, as (B, C, window)."""
    offsets = start[:, None] + torch.arange(window, device=start.device)
    return x.gather(-1, offsets[:, None, :].expand(-1, x.shape[1], -1))


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a CUDA device, else those that this process may use."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return machine.free_memory()
