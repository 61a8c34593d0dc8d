"""Content digests of stored windows: a signal has the same digest under any number and in any folder."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic
from einthoven.data.formats.inputs import short_digest
from einthoven.data.store.signals import Signals, read_rows

Digests = NDArray[np.bytes_]
"""``S16`` (n,): the first half of the SHA-256 of the int16 µV of a window. The digest of a blank window is empty."""

FILE = "digests.npy"
FIRST_SECONDS = "first_seconds.npy"
"""File of the digests of the first second of each record."""

_SIZE = 16
_BYTES_AT_ONCE = 2**21  # signals that stay in the cache of a core


def digest(window: NDArray[np.int16]) -> bytes:
    """Return the digest of one window (L, T) in µV; empty if all samples are 0, as this is equal in any record."""
    return short_digest(np.ascontiguousarray(window, "<i2").tobytes()) if window.any() else b""


def first_second(signal: NDArray[np.int16], fs: float) -> bytes:
    """Return the digest of the first second of a record (L, T) in µV.

    A record has the same first second in whatever length it is cut, as long as the cut keeps its beginning.

    Returns
    -------
    bytes
        Empty if the record is shorter, or if no lead varies in its first second, as this can be equal in any record.
    """
    samples = round(fs)
    part = signal[:, :samples]
    if part.shape[1] < samples or bool((part == part[:, :1]).all()):
        return b""
    return short_digest(np.ascontiguousarray(part, "<i2").tobytes())


def _digest_all(
    signals: Signals | NDArray[np.int16], digest_window: Callable[[NDArray[np.int16]], bytes] = digest
) -> Digests:
    """Return the digests of windows (n, L, T) in µV."""
    n = len(signals)
    digests = np.empty(n, f"S{_SIZE}")
    # All parts are read into the same memory: new memory would have to be cleared first.
    row_bytes = 2 * signals.shape[1] * signals.shape[2]
    at_once = max(1, min(_BYTES_AT_ONCE // max(row_bytes, 1), n))
    buffer = np.empty((at_once, *signals.shape[1:]), np.int16)
    for first in range(0, n, at_once):
        rows = np.arange(first, min(first + at_once, n))
        windows = read_rows(signals, rows, buffer[: len(rows)])
        digests[rows] = [digest_window(window) for window in windows]
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


def read_digests(folder: Path, rows: int, name: str = FILE) -> Digests | None:
    """Read the digests of a store from a file in its folder; None if there is no such file.

    A store of an earlier version has no digests, and a new store has no digests of first seconds.

    Raises
    ------
    ValueError
        If the file is damaged, or does not fit the signals.
    """
    file = folder / name
    if not file.exists():
        return None
    array = np.load(file)
    digests = from_bytes(array)[:-1]
    if len(digests) != rows:
        raise ValueError(f"{name} has {len(digests)} rows, expected {rows}")
    if not np.array_equal(_checksum(array[:-1])[0], array[-1]):
        raise ValueError(f"{name} is not what was written")
    return digests


def add_digests(folder: Path, signals: Signals) -> Digests:
    """Compute the digests of a store of an earlier version, and save them in its folder."""
    digests = _digest_all(signals)
    _save(folder / FILE, digests)
    return digests


def add_first_seconds(folder: Path, signals: Signals, fs: float) -> Digests:
    """Compute the digest of the first second of each row of a store, and save them in its folder."""
    digests = _digest_all(signals, partial(first_second, fs=fs))
    _save(folder / FIRST_SECONDS, digests)
    return digests


def _save(path: Path, digests: Digests) -> None:
    """Save digests. If the folder cannot be written, the signals are read again next time."""
    with contextlib.suppress(OSError), atomic(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, sealed_bytes(digests))
