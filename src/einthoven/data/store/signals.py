"""Rows of signals in one or several packs, as one array."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from einthoven.data.store.checksums import blocks_of
from einthoven.errors import UserError

Int16 = NDArray[np.int16]
AHEAD = 16  # runs of rows that are announced before they are read: a disk answers several requests faster together
AHEAD_BYTES = 2**20  # announced bytes per run, at most
PORTION_BYTES = 2**25  # bytes that are checked and then read at once, so that a slow disk reads them only once


class Signals:
    """int16 µV (n, L, T): an index reads from a memory map, `read` reads straight into an array.

    Both compare the blocks that they read with their checksums, once in a process (`data.store.checksums`).

    Parameters
    ----------
    files : sequence of Path
        ``signals.i16`` of each pack.
    sizes : sequence of int
        Number of rows of each pack.
    rows : ndarray of int64, shape (n,)
        The selected rows, counted over all packs.
    leads, samples : int
    """

    dtype = np.dtype("<i2")
    ndim = 3

    def __init__(
        self, files: Sequence[Path], sizes: Sequence[int], rows: NDArray[np.int64], leads: int, samples: int
    ) -> None:
        self.files = list(files)
        self.sizes = list(sizes)
        self.rows = rows
        self.shape = (len(rows), leads, samples)
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._maps = [
            np.memmap(file, dtype=self.dtype, mode="r", shape=(size, leads, samples))
            for file, size in zip(files, sizes, strict=True)
        ]
        self._blocks = [blocks_of(file) for file in self.files]
        # In the usual case, the rows are those of one file, in order. Then an index needs no translation.
        self._is_one_file = len(files) == 1 and len(rows) == sizes[0] and bool((np.diff(rows) == 1).all())

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return int(np.prod(self.shape, dtype=np.int64)) * 2

    def __getitem__(self, key: Any) -> Int16:
        """Return rows by number, slice, mask or list; further indices apply to leads and samples."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if self._is_one_file:
            self._check(*self._locate(np.ravel(self.rows[first])))
            return cast(Int16, self._maps[0][key])
        if isinstance(first, int | np.integer):
            pack, row = self._locate(self.rows[first])
            self._check(np.ravel(pack), np.ravel(row))
            return cast(Int16, self._maps[int(pack)][int(row)][tuple(rest)])
        signals = self.read(np.arange(len(self))[first])
        return signals[(slice(None), *rest)] if rest else signals

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all rows, in memory."""
        return self.read(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def read(self, index: NDArray[np.int64], out: Int16 | None = None) -> Int16:
        """Read rows into an array (len(index), L, T), `out` or a new one.

        Neighbouring rows are read together, and no memory map is used.

        Raises
        ------
        UserError
            If a file has become shorter, or differs from what was written.
        """
        if out is None:
            out = np.empty((len(index), *self.shape[1:]), self.dtype)
        pack, row = self._locate(self.rows[index])
        portion = max(1, PORTION_BYTES // max(1, self._row_bytes))
        for first in range(0, len(index), portion):
            part = slice(first, first + portion)
            self._check(pack[part], row[part])
            self._read(pack[part], row[part], out[part])
        return out

    def check(self) -> None:
        """Compare all rows with their checksums, unless this process has already done so.

        Raises
        ------
        UserError
            If a file has become shorter, or differs from what was written.
        """
        self._check(*self._locate(self.rows))

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * self.shape[1] * self.shape[2]

    def _check(self, pack: NDArray[np.int64], row: NDArray[np.int64]) -> None:
        for number, blocks in enumerate(self._blocks):
            if blocks is not None and not blocks.is_complete:
                blocks.check_rows(row[pack == number], self._row_bytes)

    def _read(self, pack: NDArray[np.int64], row: NDArray[np.int64], out: Int16) -> None:
        # A run is a range of rows that follow each other in one file. It is read with one call.
        is_new_run = (np.diff(row) != 1) | (np.diff(pack) != 0)
        bounds = np.concatenate([[0], np.flatnonzero(is_new_run) + 1, [len(row)]])
        runs = list(pairwise(bounds.tolist()))

        row_bytes = self._row_bytes
        descriptors: dict[int, int] = {}
        try:
            for number in np.unique(pack).tolist():
                # A pack that was merged after it was opened has no file any more, but its memory map remains.
                with contextlib.suppress(FileNotFoundError):
                    descriptors[number] = os.open(self.files[number], os.O_RDONLY)
            for k, (first, last) in enumerate(runs):
                number = int(pack[first])
                if number not in descriptors:
                    out[first:last] = self._maps[number][int(row[first]) : int(row[first]) + last - first]
                    continue
                # Announce the next `AHEAD` runs before the first one is read, then one more run at each step.
                start = k + AHEAD if k else 1
                for ahead_first, ahead_last in runs[start : k + AHEAD + 1]:
                    size = (ahead_last - ahead_first) * row_bytes
                    if int(pack[ahead_first]) in descriptors:
                        _announce(descriptors[int(pack[ahead_first])], int(row[ahead_first]) * row_bytes, size)
                self._fill(descriptors[number], out[first:last], int(row[first]) * row_bytes, number)
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)

    def _fill(self, descriptor: int, out: Int16, offset: int, number: int) -> None:
        view = memoryview(out).cast("B")  # type: ignore[arg-type]
        # One call reads at most 2 GiB.
        while view:
            length = os.preadv(descriptor, [view], offset)
            if length == 0:
                raise UserError(f"{self.files[number]}: truncated; delete its folder, and it is built anew.")
            view = view[length:]
            offset += length

    def _locate(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the pack of each row, and the row in that pack."""
        pack = np.searchsorted(self._starts, rows, "right") - 1
        return pack, rows - self._starts[pack]


def _announce(descriptor: int, offset: int, size: int) -> None:
    """Tell the operating system that these bytes will be read soon. macOS has no such call."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, min(size, AHEAD_BYTES), os.POSIX_FADV_WILLNEED)


def read_rows(signals: Signals | Int16, rows: NDArray[np.int64], out: Int16 | None = None) -> Int16:
    """Read rows of the signals of a store, or of an array, into `out` or a new array."""
    if isinstance(signals, Signals):
        return signals.read(rows, out)
    return np.take(signals, rows, axis=0, out=out, mode="clip" if out is not None else "raise")
