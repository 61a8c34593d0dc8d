"""Rows of signals that stand in one or several packs, as one array."""

from __future__ import annotations

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
AHEAD = 16  # runs that are asked for before they are read: a disk answers several faster at once than in turn
AHEAD_BYTES = 2**20  # of each, at most
PORTION_BYTES = 2**25  # that are compared with their checksums, and then read: from memory, if a disk is slow


class Signals:
    """int16 µV (n, L, T): memory-mapped where it is indexed, read straight into place by `read`.

    Both compare the blocks that they read with their checksums, once in a process (`data.store.checksums`).

    Parameters
    ----------
    files : sequence of Path
        ``signals.i16`` of each pack.
    sizes : sequence of int
        Rows of each.
    rows : ndarray of int64, shape (n,)
        Which rows, counted over all packs.
    leads, samples : int
    """

    dtype = np.dtype("<i2")
    ndim = 3

    def __init__(
        self, files: Sequence[Path], sizes: Sequence[int], rows: NDArray[np.int64], leads: int, samples: int
    ) -> None:
        self.files, self.sizes, self.rows = list(files), list(sizes), rows
        self.shape = (len(rows), leads, samples)
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._maps = [
            np.memmap(file, dtype=self.dtype, mode="r", shape=(size, leads, samples))
            for file, size in zip(files, sizes, strict=True)
        ]
        self._blocks = [blocks_of(file) for file in self.files]
        # in the usual case the rows are those of one file, in order
        self._plain = len(files) == 1 and len(rows) == sizes[0] and bool((np.diff(rows) == 1).all())

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return int(np.prod(self.shape, dtype=np.int64)) * 2

    def __getitem__(self, key: Any) -> Int16:
        """Rows by number, slice, mask or list; further indices apply to leads and samples."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if self._plain:
            self._check(*self._where(np.ravel(self.rows[first])))
            return cast(Int16, self._maps[0][key])
        if isinstance(first, int | np.integer):
            pack, row = self._where(self.rows[first])
            self._check(np.ravel(pack), np.ravel(row))
            return cast(Int16, self._maps[int(pack)][int(row)][tuple(rest)])
        signals = self.read(np.arange(len(self))[first])
        return signals[(slice(None), *rest)] if rest else signals

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows, in memory."""
        return self.read(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def read(self, index: NDArray[np.int64], out: Int16 | None = None) -> Int16:
        """Read rows into an array of one's own (len(index), L, T): neighbours in one go, and nothing stays mapped.

        Raises
        ------
        UserError
            If a file has become shorter, or is not what was written.
        """
        out = np.empty((len(index), *self.shape[1:]), self.dtype) if out is None else out
        pack, row = self._where(self.rows[index])
        portion = max(1, PORTION_BYTES // max(1, self._row_bytes))
        for first in range(0, len(index), portion):
            here = slice(first, first + portion)
            self._check(pack[here], row[here])
            self._read(pack[here], row[here], out[here])
        return out

    def check(self) -> None:
        """Compare all rows with their checksums, as far as this process has not done so.

        Raises
        ------
        UserError
            If a file has become shorter, or is not what was written.
        """
        self._check(*self._where(self.rows))

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * self.shape[1] * self.shape[2]

    def _check(self, pack: NDArray[np.int64], row: NDArray[np.int64]) -> None:
        for number, blocks in enumerate(self._blocks):
            if blocks is not None and not blocks.complete:
                blocks.check_rows(row[pack == number], self._row_bytes)

    def _read(self, pack: NDArray[np.int64], row: NDArray[np.int64], out: Int16) -> None:
        size = self._row_bytes
        # runs of rows that stand one after the other in one file
        cuts = np.flatnonzero((np.diff(row) != 1) | (np.diff(pack) != 0)) + 1
        bounds = np.concatenate([[0], cuts, [len(row)]])
        opened: dict[int, int] = {}
        try:
            for number in np.unique(pack).tolist():
                opened[number] = os.open(self.files[number], os.O_RDONLY)
            runs = list(pairwise(bounds.tolist()))
            for run, (first, last) in enumerate(runs):
                for coming, end in runs[run + AHEAD if run else 1 : run + AHEAD + 1]:
                    self._announce(opened[int(pack[coming])], int(row[coming]) * size, (end - coming) * size)
                number = int(pack[first])
                self._fill(opened[number], out[first:last], int(row[first]) * size, number)
        finally:
            for descriptor in opened.values():
                os.close(descriptor)

    def _fill(self, descriptor: int, out: Int16, offset: int, number: int) -> None:
        view = memoryview(out).cast("B")  # type: ignore[arg-type]
        while view:
            got = os.preadv(descriptor, [view], offset)  # one call reads 2 GiB at most
            if got == 0:
                raise UserError(f"{self.files[number]}: truncated; delete its folder, and it is built anew.")
            view, offset = view[got:], offset + got

    def _announce(self, descriptor: int, offset: int, size: int) -> None:
        if hasattr(os, "posix_fadvise"):  # not on macOS
            os.posix_fadvise(descriptor, offset, min(size, AHEAD_BYTES), os.POSIX_FADV_WILLNEED)

    def _where(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        pack = np.searchsorted(self._starts, rows, "right") - 1
        return pack, rows - self._starts[pack]


def read_rows(signals: Signals | Int16, rows: NDArray[np.int64], out: Int16 | None = None) -> Int16:
    """Rows of a store's signals, or of an array, as an array of one's own."""
    if isinstance(signals, Signals):
        return signals.read(rows, out)
    return np.take(signals, rows, axis=0, out=out, mode="clip" if out is not None else "raise")
