"""Content digests of stored windows: a signal has the same digest under any number and in any folder."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic
from einthoven.data.formats.inputs import short_digest
from einthoven.data.store.signals import Signals, read_rows

Digests = NDArray[np.bytes_]
"""``S16`` (n,): the first half of the SHA-256 of the int16 µV of a window. The digest of a blank window is empty."""

FILE = "digests.npy"
_SIZE = 16
_ROWS_AT_ONCE = 256


def digest(window: NDArray[np.int16]) -> bytes:
    """Return the digest of one window (L, T) in µV; empty if all samples are 0, as this is equal in any record."""
    return short_digest(np.ascontiguousarray(window, "<i2").tobytes()) if window.any() else b""


def _digest_all(signals: Signals | NDArray[np.int16]) -> Digests:
    """Return the digests of windows (n, L, T) in µV."""
    n = len(signals)
    digests = np.empty(n, f"S{_SIZE}")
    for first in range(0, n, _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, n))
        digests[rows] = [digest(window) for window in read_rows(signals, rows)]
    return digests


def without_blank(digests: Digests, leads: int, samples: int) -> Digests:
    """Return the digests of packs with those of blank windows made empty."""
    blank = short_digest(bytes(2 * leads * samples))
    return np.where(digests == blank, b"", digests).astype(f"S{_SIZE}")


def to_bytes(digests: Digests) -> NDArray[np.uint8]:
    """Return digests as bytes (n, 16), as files hold them."""
    return np.ascontiguousarray(digests, f"S{_SIZE}").view(np.uint8).reshape(-1, _SIZE)


def from_bytes(array: NDArray[np.uint8]) -> Digests:
    """Return digests from bytes (n, 16).

    Raises
    ------
    ValueError
        If the array has another form.
    """
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != _SIZE:
        raise ValueError(f"digests of {array.dtype} {array.shape}, expected uint8 (n, {_SIZE})")
    return np.ascontiguousarray(array).view(f"S{_SIZE}").reshape(-1)


def sealed_bytes(digests: Digests) -> NDArray[np.uint8]:
    """Return digests as the file of a store holds them: bytes (n + 1, 16); the last row is a checksum of the others."""
    rows = to_bytes(digests)
    return np.concatenate([rows, _checksum(rows)])


def _checksum(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.frombuffer(hashlib.sha256(rows.tobytes()).digest()[:_SIZE], np.uint8)[None]


def read_digests(folder: Path, rows: int) -> Digests | None:
    """Read the digests of a store from its file; None for a store of an earlier version, which has no such file.

    Raises
    ------
    ValueError
        If the file is damaged, or does not fit the signals.
    """
    file = folder / FILE
    if not file.exists():
        return None
    array = np.load(file)
    digests = from_bytes(array)[:-1]
    if len(digests) != rows:
        raise ValueError(f"{FILE} has {len(digests)} rows, expected {rows}")
    if not np.array_equal(_checksum(array[:-1])[0], array[-1]):
        raise ValueError(f"{FILE} is not what was written")
    return digests


def add_digests(folder: Path, signals: Signals) -> Digests:
    """Compute the digests of a store of an earlier version, and save them in its folder."""
    digests = _digest_all(signals)
    # If the folder cannot be written, the signals are read again next time.
    with contextlib.suppress(OSError), atomic(folder / FILE) as partial, partial.open("wb") as file:
        np.save(file, sealed_bytes(digests))
    return digests
