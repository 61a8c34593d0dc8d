"""The packed store: every record of a corpus as int16 µV in one memory-mapped file, built once.

A store is a folder: ``signals.i16`` (n, L, T) little-endian int16 µV with one gain for all leads, so that the
limb-lead laws survive; ``table.parquet`` with one row per record; ``store.json`` with shape, sampling frequency
and fingerprint. It is built beside its final place and renamed into it: a store exists whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.plan import Plan
from einthoven.data.records import read_microvolts
from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 2
MILLIVOLT_PER_COUNT = 1e-3  # the store counts microvolts

ABANDONED_AFTER = 3600.0  # seconds; process numbers would not do: a cache may be shared by machines and containers

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Store:
    """An opened store.

    Attributes
    ----------
    path : Path
    signals : ndarray of int16, shape (n, L, T), memory-mapped
        Amplitudes in µV.
    table : DataFrame
        One row per record: the corpus' own columns, and `invalid_samples`, `clipped_samples`.
    fs : float
        Sampling frequency in Hz.
    leads : tuple of str
        The L leads, canonical names.
    fingerprint : str
        SHA-256 over signals and table: two stores with one fingerprint hold the same data.
    """

    path: Path
    signals: NDArray[np.int16]
    table: pd.DataFrame
    fs: float
    leads: tuple[str, ...]
    fingerprint: str


def store_key(plan: Plan) -> str:
    """Name of the store that these inputs and settings lead to: any change of either gives another name.

    Record files enter by name, size and modification time; the tables by their content.
    """
    settings = [FORMAT, plan.fs, list(plan.leads), plan.seconds, plan.long, plan.short, plan.stride]
    digest = hashlib.sha256(json.dumps([*settings, sorted(plan.reading.items())]).encode())
    for table in plan.tables:
        digest.update(table.read_bytes())
    for file in plan.files:
        for suffix in (".hea", ".dat"):
            try:
                status = file.with_name(f"{file.name}{suffix}").stat()
            except FileNotFoundError:
                continue  # building names the missing file
            digest.update(f"{file.name}{suffix} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def open_or_build(
    plan: Plan, cache: Path, progress: Progress | None = None, shard: tuple[int, int] | None = None
) -> Store:
    """Open the store of a plan, building it from the records where it is not there yet.

    Parameters
    ----------
    plan : Plan
    cache : Path
        Folder for packed stores.
    progress : callable, optional
        Called with (records done, records in all).
    shard : (int, int), optional
        (k, n): only the k-th of n parts of the records, k from 0.

    Raises
    ------
    UserError
        If a record cannot be read, or records differ where they may not.
    """
    if shard is not None:
        plan = plan.part(*shard)
    path = cache / "stores" / f"{plan.name}-{plan.fs:g}hz-{store_key(plan)}"
    if not path.exists():
        _build(path, plan, progress)
    return open_store(path)


def open_store(path: Path) -> Store:
    """Open a store; signals are memory-mapped, nothing is read yet.

    Raises
    ------
    UserError
        If one of its files is missing or damaged.
    """
    import pandas as pd

    file = path / "signals.i16"
    try:
        meta = json.loads((path / "store.json").read_text())
        n, leads, samples = meta["shape"]
        expected, found = 2 * n * leads * samples, file.stat().st_size
        if found != expected:
            raise ValueError(f"signals.i16 has {found} bytes, expected {expected}")
        signals = np.memmap(file, dtype="<i2", mode="r", shape=(n, leads, samples))
        table = pd.read_parquet(path / "table.parquet")
        if len(table) != n:
            raise ValueError(f"table.parquet has {len(table)} rows, expected {n}")
        return Store(path, signals, table, meta["fs"], tuple(meta["leads"]), meta["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are among them
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: a damaged store ({reason}); delete that folder, and it is built anew.") from None


def _build(path: Path, plan: Plan, progress: Progress | None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path.parent}: cannot be made ({error.strerror}); data.cache names a folder for packed stores."
        ) from None
    _remove_abandoned(path.parent)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir()
    try:
        n, fs = len(plan.files), plan.fs
        samples = None if plan.seconds is None else round(plan.seconds * fs)
        quality, digest = np.zeros((n, 2), dtype=np.int64), hashlib.sha256()
        with (partial / "signals.i16").open("wb") as file:
            for row, record in enumerate(plan.files):
                signal, found_fs, *quality[row] = read_microvolts(record, tuple(plan.leads), **plan.reading)
                samples = samples or signal.shape[1]
                if found_fs != fs or signal.shape[1] != samples:
                    raise UserError(
                        f"{record.name}: {signal.shape[1]} samples at {found_fs:g} Hz found, "
                        f"expected {samples} at {fs:g} Hz as in the others."
                    )
                data = signal.tobytes()
                digest.update(data)
                file.write(data)
                if progress is not None:
                    progress(row + 1, n)
            os.fsync(file.fileno())
        table = plan.table.assign(invalid_samples=quality[:, 0], clipped_samples=quality[:, 1]).reset_index(drop=True)
        table.to_parquet(partial / "table.parquet")
        digest.update(table.to_csv(index=False).encode())
        meta = {
            "format": FORMAT,
            "shape": [n, len(plan.leads), samples],
            "fs": fs,
            "leads": list(plan.leads),
            "fingerprint": digest.hexdigest(),
        }
        (partial / "store.json").write_text(json.dumps(meta))
        try:
            partial.replace(path)
        except OSError:
            if not path.exists():  # otherwise another process was first with the same store
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed builds left behind: partial stores that nobody has written to for an hour."""
    for partial in folder.glob("*.partial"):
        try:
            newest = max(file.stat().st_mtime for file in (partial, *partial.iterdir()))
        except OSError:  # just finished, or removed by another process
            continue
        if time.time() - newest > ABANDONED_AFTER:
            shutil.rmtree(partial, ignore_errors=True)
