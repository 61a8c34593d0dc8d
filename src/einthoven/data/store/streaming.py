"""A split that is read as it is used, for stores that are larger than the device's memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.data.store.batches import crop
from einthoven.data.store.signals import Signals, read_rows

BLOCK_BYTES = 2**19  # neighbours that are read, and so served, together
BUFFER_BYTES = 2**27  # of signals among which records are shuffled; two of these are in memory


@dataclass(frozen=True)
class StreamedSplit:
    """A split whose signals stay on the disk; a buffer of them is in memory, and the next one is being read.

    The store is cut into blocks of neighbours. An epoch takes the blocks in random order and shuffles the records of
    as many as a buffer holds. Two neighbours of one block meet in a batch of B with probability (B - 1)/(buffer - 1),
    where the buffer is counted in records; in a full shuffle it would be (B - 1)/(n - 1).

    Attributes
    ----------
    signals : Signals or ndarray of int16, (rows of the store, L, T)
    rows : ndarray of int64, shape (n,)
        Rows of the split; ascending rows are read fastest.
    labels : Tensor, float32 (n, K)
        On the device.
    block, buffer : int
        Records of a block and of a buffer.
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
        """Blocks and buffers of the usual sizes; nothing is read yet."""
        size = 2 * signals.shape[1] * signals.shape[2]
        y = torch.from_numpy(labels.astype(np.float32)).to(device)
        return cls(signals, rows, y, max(1, BLOCK_BYTES // size), max(1, BUFFER_BYTES // size))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def samples(self) -> int:
        """Samples per record, T."""
        return int(self.signals.shape[-1])

    def take(self, index: Tensor, window: int, start: Tensor | None = None) -> Tensor:
        """Signals of some records in mV, cropped to `window` samples from `start` (B,), or from the beginning."""
        signals = read_rows(self.signals, self.rows[index.cpu().numpy()])
        return crop(torch.from_numpy(signals).to(self.labels.device), window, start)

    def shuffled(self, drawn: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """The drawn records, blocks in random order, records in random order among those that share a buffer."""
        blocks = torch.split(drawn, self.block)
        order = torch.cat([blocks[k] for k in torch.randperm(len(blocks), generator=generator).tolist()])
        parts = torch.split(order, self._portion(size))
        return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in parts])

    def serve(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Records in this order, `size` at a time; the next buffer is read while this one is served."""
        parts, device = torch.split(order, self._portion(size)), self.labels.device
        shape = (min(self._portion(size), len(order)), *self.signals.shape[1:])
        buffers = [np.empty(shape, np.int16) for _ in parts[:2]]  # used in turn: new memory would have to be cleared
        with ThreadPoolExecutor(1) as reader:  # reading releases the interpreter
            coming = reader.submit(self._read, parts[0], buffers[0])
            for number, part in enumerate(parts):
                signals, place = coming.result()
                if number + 1 < len(parts):
                    coming = reader.submit(self._read, parts[number + 1], buffers[(number + 1) % 2])
                for index, rows in zip(torch.split(part, size), torch.split(place, size), strict=True):
                    yield index.to(device), signals.index_select(0, rows).to(device)

    def chunks(self) -> Iterator[NDArray[np.int16]]:
        """All signals, some hundred records at a time."""
        return (read_rows(self.signals, self.rows[first : first + 256]) for first in range(0, len(self), 256))

    def _portion(self, size: int) -> int:
        """Records that are read at a time: whole batches."""
        return max(1, self.buffer // size) * size

    def _read(self, index: Tensor, buffer: NDArray[np.int16]) -> tuple[Tensor, Tensor]:
        """Signals of these records in the order of the store, each once, and where each of them is."""
        rows, place = np.unique(self.rows[index.numpy()], return_inverse=True)
        signals = read_rows(self.signals, rows, buffer[: len(rows)])
        return torch.from_numpy(signals), torch.from_numpy(place)


def fits(nbytes: int, device: torch.device) -> bool:
    """Whether this many bytes take no more than half of the memory that is free on the device."""
    return nbytes <= free_memory(device) // 2


def free_memory(device: torch.device) -> int:
    """Free bytes of a CUDA device; elsewhere what the system, or the limit of the control group, leaves."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        free = free if limit == "max" else min(free, int(limit) - int(used))
    except (OSError, StopIteration, ValueError):  # another system, or no limit
        pass
    return free
