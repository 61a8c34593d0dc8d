"""Checksums of a pack's signals: one CRC-32 for each block of about 512 KiB, compared when the block is first read.

A block is a whole number of rows. ``pack.json`` holds the checksums. They are compared once in a process; after that,
reading costs nothing more.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.store.plan import FILE_FORMAT
from einthoven.errors import UserError
from einthoven.files import seal, unseal

SIGNALS = "signals.i16"
NOTES = "pack.json"
BLOCK_BYTES = 2**19
THREADS = min(4, os.cpu_count() or 1)  # reading and CRC-32 both release the interpreter
FEW = 4  # blocks that one thread checks as fast

Rows = NDArray[np.int64]


class BlockSums:
    """Checksums of the blocks of signals that are being written.

    Attributes
    ----------
    rows : int
        Of a block; 0 as long as nothing was added.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sums: list[int] = []
        self._sum = self._rows_in_block = 0

    def add(self, row: bytes | memoryview) -> None:
        """Add the signal of one row."""
        self.rows = self.rows or max(1, BLOCK_BYTES // max(1, len(row)))
        self._sum = zlib.crc32(row, self._sum)
        self._rows_in_block += 1
        if self._rows_in_block == self.rows:
            self._finish()

    def finished(self) -> list[int]:
        """The checksum of each block; the last may be of fewer rows."""
        if self._rows_in_block:
            self._finish()
        return self._sums

    def _finish(self) -> None:
        self._sums.append(self._sum)
        self._sum = self._rows_in_block = 0


def pack_notes(sums: BlockSums, index: str) -> str:
    """The text of ``pack.json``; `index` is the SHA-256 of the pack's index."""
    return seal({"format": FILE_FORMAT, "block_rows": sums.rows, "crc32": sums.finished(), "index": index})


class Blocks:
    """The blocks of one file of signals, and which of them this process has checked.

    Parameters
    ----------
    file : Path
        ``signals.i16`` of a pack.
    rows : int
        Rows of a block.
    sums : sequence of int
        CRC-32 of each block.
    """

    def __init__(self, file: Path, rows: int, sums: Sequence[int]) -> None:
        self.file, self.rows = file, rows
        self._sums = np.array(sums, np.uint32)
        self._checked = np.zeros(len(sums), bool)

    @property
    def complete(self) -> bool:
        """Whether all of them were compared."""
        return bool(self._checked.all())

    def check_rows(self, rows: Rows, row_bytes: int) -> None:
        """Compare the blocks of some rows with their checksums, unless this process has done so.

        Raises
        ------
        UserError
            If one is not what was written.
        """
        blocks = np.unique(rows // self.rows)
        blocks = blocks[~self._checked[blocks]]
        if not len(blocks):
            return
        size = self.rows * row_bytes
        if len(blocks) <= FEW:
            self._check(blocks, size)
            return
        with ThreadPoolExecutor(THREADS) as pool:
            checks = [pool.submit(self._check, share, size) for share in np.array_split(blocks, THREADS)]
        for check in checks:
            check.result()

    def _check(self, blocks: Rows, size: int) -> None:
        buffer = memoryview(bytearray(size))
        with self.file.open("rb", buffering=0) as stream:
            for block in blocks.tolist():
                got = _read(stream.fileno(), buffer, block * size)
                if zlib.crc32(buffer[:got]) != self._sums[block]:
                    raise damaged(self.file.parent, f"block {block} of {SIGNALS} is not what was written")
                self._checked[block] = True


def _read(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer from a file; returns how many bytes there were."""
    done = 0
    while done < len(buffer):
        got = os.preadv(descriptor, [buffer[done:]], offset + done)
        if got == 0:
            break
        done += got
    return done


def blocks_of(file: Path) -> Blocks | None:
    """The blocks of a file of signals; None for a pack of version 0.1, which has no checksums.

    Every store in this process that points to a pack shares them.

    Raises
    ------
    UserError
        If the checksums are damaged.
    """
    notes = file.with_name(NOTES)
    if not notes.exists():
        return None
    state = file.stat()
    return _blocks(file, (state.st_ino, state.st_size, state.st_mtime_ns, notes.stat().st_mtime_ns))


@lru_cache(maxsize=4096)
def _blocks(file: Path, _state: tuple[int, ...]) -> Blocks:
    content = read_notes(file.parent)
    return Blocks(file, int(content["block_rows"]), content["crc32"])


def read_notes(folder: Path) -> dict[str, Any]:
    """What ``pack.json`` of a pack holds.

    Raises
    ------
    UserError
        If it is damaged.
    """
    try:
        content = unseal((folder / NOTES).read_text(encoding="utf-8"))
        if content["format"] > FILE_FORMAT:
            raise UserError(
                f"{folder}: a pack of form {content['format']}; this version reads those up to {FILE_FORMAT}."
            )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(folder, f"{NOTES}: {error}") from None
    return content


def damaged(folder: Path, reason: str) -> UserError:
    """The sentence about a pack that is not what was written."""
    return UserError(f"{folder}: a damaged pack ({reason}); delete that folder, and it is built anew.")
