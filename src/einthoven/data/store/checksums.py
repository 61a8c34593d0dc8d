"""Checksums of the signals of a pack: one CRC-32 per block of about 512 KiB, compared when the block is first read.

A block is a whole number of rows. ``pack.json`` holds the checksums. A process compares each block once; later reads
cost nothing more.
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

from einthoven.data.store.plan import FORMAT
from einthoven.errors import UserError
from einthoven.files import seal, unseal
from einthoven.machine import usable_cores

SIGNALS = "signals.i16"
PACK_FILE = "pack.json"
MERGED = "merged.json"  # in a pack: its signals are in another one
BLOCK_BYTES = 2**19
THREADS = min(4, usable_cores())  # reading and CRC-32 both release the interpreter lock
FEW = 4  # up to this number of blocks, one thread is as fast as several


class BlockSums:
    """Checksums of the blocks of signals that are being written.

    Attributes
    ----------
    rows : int
        Rows of a block; 0 until the first row is added.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sums: list[int] = []
        self._sum = 0
        self._rows_in_block = 0

    def add(self, row: bytes | memoryview) -> None:
        """Add the signal of one row."""
        self.rows = self.rows or max(1, BLOCK_BYTES // max(1, len(row)))
        self._sum = zlib.crc32(row, self._sum)
        self._rows_in_block += 1
        if self._rows_in_block == self.rows:
            self._finish_block()

    def finished(self) -> list[int]:
        """Return the checksum of each block; the last block may have fewer rows."""
        if self._rows_in_block:
            self._finish_block()
        return self._sums

    def _finish_block(self) -> None:
        self._sums.append(self._sum)
        self._sum = 0
        self._rows_in_block = 0


def pack_text(sums: BlockSums, index: str, merged: Sequence[Sequence[object]] = ()) -> str:
    """Return the text of ``pack.json``.

    Parameters
    ----------
    sums : BlockSums
    index : str
        SHA-256 of the index of the pack.
    merged : sequence of (str, int)
        The packs that this one replaces, and the row of the first signal of each.
    """
    content = {"format": FORMAT, "block_rows": sums.rows, "crc32": sums.finished(), "index": index}
    return seal(content | {"merged": list(merged)} if merged else content)


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
        self.file = file
        self.rows = rows
        self._sums = np.array(sums, np.uint32)
        self._is_checked = np.zeros(len(sums), bool)

    @property
    def is_complete(self) -> bool:
        """Whether all blocks were compared."""
        return bool(self._is_checked.all())

    def check_rows(self, rows: NDArray[np.int64], row_bytes: int) -> None:
        """Compare the blocks of some rows with their checksums, unless this process has already done so.

        Raises
        ------
        UserError
            If a block differs from what was written.
        """
        blocks = np.unique(rows // self.rows)
        blocks = blocks[~self._is_checked[blocks]]
        if not len(blocks):
            return
        block_bytes = self.rows * row_bytes
        if len(blocks) <= FEW:
            self._check(blocks, block_bytes)
            return
        with ThreadPoolExecutor(THREADS) as pool:
            checks = [pool.submit(self._check, share, block_bytes) for share in np.array_split(blocks, THREADS)]
        # `result` raises the error of its thread, if there is one.
        for check in checks:
            check.result()

    def _check(self, blocks: NDArray[np.int64], block_bytes: int) -> None:
        buffer = memoryview(bytearray(block_bytes))
        try:
            stream = self.file.open("rb", buffering=0)
        except FileNotFoundError:
            # A pack that was merged after it was opened has no file any more. The merge has compared its checksums.
            if is_merged(self.file.parent):
                return
            raise
        with stream:
            for block in blocks.tolist():
                length = _read(stream.fileno(), buffer, block * block_bytes)
                if zlib.crc32(buffer[:length]) != self._sums[block]:
                    raise damaged(self.file.parent, f"block {block} of {SIGNALS} is not what was written")
                self._is_checked[block] = True


def _read(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer from a file; return the number of bytes. The last block may be shorter than the buffer."""
    done = 0
    while done < len(buffer):
        length = os.preadv(descriptor, [buffer[done:]], offset + done)
        if length == 0:
            break
        done += length
    return done


def blocks_of(file: Path) -> Blocks | None:
    """Return the blocks of a file of signals; None for a pack of format 3, which has no checksums.

    All stores of this process that point to the pack share the same object.

    Raises
    ------
    UserError
        If the checksums are damaged.
    """
    pack_file = file.with_name(PACK_FILE)
    if not pack_file.exists():
        return None
    state = file.stat()
    return _blocks(file, (state.st_ino, state.st_size, state.st_mtime_ns, pack_file.stat().st_mtime_ns))


@lru_cache(maxsize=4096)
def _blocks(file: Path, _state: tuple[int, ...]) -> Blocks:
    """Return the blocks of a file in this state. A file that was replaced has another state and is checked again."""
    content = read_pack_file(file.parent)
    return Blocks(file, int(content["block_rows"]), content["crc32"])


def read_pack_file(folder: Path) -> dict[str, Any]:
    """Read ``pack.json`` of a pack.

    Raises
    ------
    UserError
        If it is damaged.
    """
    try:
        content = unseal((folder / PACK_FILE).read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            raise UserError(
                f"{folder}: a pack of format {content['format']}; this version reads formats up to {FORMAT}."
            )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(folder, f"{PACK_FILE}: {error}") from None
    return content


def is_merged(folder: Path) -> bool:
    """Return whether the signals of a pack are in another one (`data.store.merged_packs`)."""
    return (folder / MERGED).exists()


def damaged(folder: Path, reason: str) -> UserError:
    """Return the error for a pack that differs from what was written."""
    return UserError(f"{folder}: a damaged pack ({reason}); delete that folder, and it is built anew.")
