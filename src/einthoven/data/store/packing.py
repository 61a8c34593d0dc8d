"""Records -> packs: every record is read, brought to one rate and length, rounded to µV and written once."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.inputs import file_state, main_file, other_files, other_files_state, short_digest
from einthoven.data.formats.reading import read_microvolts, read_record
from einthoven.data.store.checksums import NOTES, SIGNALS, BlockSums, pack_notes
from einthoven.data.store.packs import IndexWriter, Packs
from einthoven.data.store.plan import Plan
from einthoven.errors import UserError
from einthoven.functional.conform import Windows, cut, resample, rounded

PACK_BYTES = 2**29  # of signals; what a killed build may have to read again
PACK_ENTRIES = 2**16  # of the index
WRITE_BYTES = 2**20  # of signals that are written at a time
ABANDONED_AFTER = 3600.0  # seconds; process numbers would not do: a cache may be shared by machines and containers

Progress = Callable[[int, int], None]


def pack(pool: Path, plan: Plan, missing: NDArray[np.int64], packs: Packs, progress: Progress | None = None) -> None:
    """Read the missing records of a plan and write packs of them into `pool`.

    Packs are finished one after the other: a build that is interrupted leaves those, and the next goes on from there.

    Raises
    ------
    UserError
        If a record cannot be read (unless ``on_error="quarantine"``), or records differ in length.
    """
    make_folder(pool)
    remove_abandoned(pool)
    left, total = iter(missing), len(plan.files)
    done, lengths = total - len(missing), set(packs.samples) if plan.seconds is None else set()
    more = True
    while more:
        with partial_folder(pool) as folder:
            index, rows, written, own = IndexWriter(folder), 0, 0, set[bytes]()
            sums = BlockSums()
            with (folder / SIGNALS).open("wb", buffering=WRITE_BYTES) as file:
                while written < PACK_BYTES and index.entries < PACK_ENTRIES:
                    record = next(left, None)
                    if (more := record is not None) is False:
                        break
                    assert record is not None
                    for entry, signal in _entries(plan, plan.files[record]):
                        new = signal is not None and not (entry["digest"] in own or packs.hold(entry["digest"]))
                        if signal is not None and new:
                            own.add(entry["digest"])
                            written += file.write(signal)
                            sums.add(signal)
                        index.add({"row": rows if new else -1} | entry)
                        rows += new
                        if entry["window"] == 0:
                            lengths.add(entry["samples"])
                    if len(lengths) > 1:
                        raise UserError(_unequal(plan.files[record].name, lengths, plan.fs))
                    done += 1
                    if progress is not None:
                        progress(done, total)
                file.flush()
                os.fsync(file.fileno())
            identity, index_digest = index.close()
            (folder / NOTES).write_text(pack_notes(sums, index_digest), encoding="utf-8")
            if index.entries:
                publish(folder, pool / identity)


def _entries(plan: Plan, file: Path) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """Entries of the index for one record, and the signal of each."""
    main = main_file(file)
    files = {"main": file_state(main), "others": other_files(main)}
    # The state is taken before the record is read, so that a change during the reading is noticed.
    files["state"] = other_files_state(main, str(files["others"]))
    nothing = {"samples": 0, "invalid_samples": 0, "clipped_samples": 0, "valid_samples": 0, "start_s": 0.0}
    try:
        windows, invalid, clipped = read_windows(plan, file)
    except UserError as error:
        if plan.on_error == "fail":
            raise
        yield files | nothing | {"window": -1, "digest": b"", "row": -1, "reason": str(error)}, None
        return
    for number, signal in enumerate(windows.signal):
        data = signal.tobytes()
        yield (
            files
            | {
                "window": number,
                "digest": short_digest(data),
                "samples": signal.shape[-1],
                "invalid_samples": int(invalid[number]),
                "clipped_samples": int(clipped[number]),
                "valid_samples": int(windows.valid_samples[number]),
                "start_s": float(windows.start_s[number]),
                "reason": "",
            },
            data,
        )


def read_windows(plan: Plan, file: Path) -> tuple[Windows, NDArray[np.int64], NDArray[np.int64]]:
    """Windows of one record in int16 µV, and the invalid and the clipped samples of each.

    Where the record has to be resampled, or its faults have to be counted by window, it is read a second time, in mV.
    """
    rules: dict[str, Any] = {"long": plan.long, "short": plan.short, "stride": plan.stride, "source": file.name}
    leads, reading = tuple(plan.leads), dict[str, Any](plan.reading)
    counts, fs, invalid, clipped = read_microvolts(file, leads, **reading)
    if fs == plan.fs:
        windows = cut(counts, fs, plan.seconds, **rules)  # type: ignore[arg-type]  # integers are cut like floats
        n = len(windows.signal)
        if n == 1 and counts.shape[1] <= windows.signal.shape[2]:
            return windows, np.array([invalid]), np.array([clipped])
        if invalid == clipped == 0:
            return windows, np.zeros(n, np.int64), np.zeros(n, np.int64)
    signal = resample(read_record(file, want=leads, **reading).signal, fs, plan.fs)
    windows = cut(signal, plan.fs, plan.seconds, **rules)
    packed, wrong, beyond = to_microvolts(windows.signal)
    return Windows(packed, windows.valid_samples, windows.start_s), wrong, beyond  # type: ignore[arg-type]


def to_microvolts(signal: NDArray[np.floating]) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]:
    """Windows (W, L, T) from mV to int16 µV, rounded half to even; invalid and clipped samples of each are counted."""
    packed, invalid, clipped = rounded(signal.astype(np.float64) * 1000.0)
    return packed, invalid.sum(axis=(1, 2)), clipped.sum(axis=(1, 2))


def _unequal(name: str, lengths: set[int], fs: float) -> str:
    found = " and of ".join(map(str, sorted(lengths)))
    return (
        f"{name}: records of {found} samples at {fs:g} Hz found, expected all equally long; data.seconds=… brings them "
        "to one length."
    )


# ---------------------------------------------------------------- folders that exist whole or not at all


def make_folder(path: Path) -> None:
    """Make a folder of the cache.

    Raises
    ------
    UserError
        If that is not possible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be made ({error.strerror}); data.cache names a folder for packed stores."
        ) from None


@contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """A folder to build in, gone afterwards unless it was published."""
    partial = partial_name(parent)
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def partial_name(parent: Path) -> Path:
    """A name for a folder that is not finished, or no longer needed."""
    return parent / f"{uuid.uuid4().hex[:16]}.partial"


def publish(partial: Path, path: Path) -> None:
    """Give a finished folder its name; another process may have been first with the same."""
    try:
        partial.replace(path)
    except OSError:
        if not path.exists():
            raise


def remove_abandoned(folder: Path) -> None:
    """Delete what killed builds left behind: partial folders that nobody has written to for an hour."""
    for partial in folder.glob("*.partial"):
        try:
            newest = max(file.stat().st_mtime for file in (partial, *partial.iterdir()))
        except OSError:  # just finished, or removed by another process
            continue
        if time.time() - newest > ABANDONED_AFTER:
            shutil.rmtree(partial, ignore_errors=True)
