"""Records -> packs: each record is read, brought to one sampling frequency and length, rounded to µV, written once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import working_folder
from einthoven.data.formats.inputs import file_state, main_file, other_files, other_files_state, short_digest
from einthoven.data.formats.reading import read_microvolts, read_record
from einthoven.data.store.checksums import PACK_FILE, SIGNALS, BlockSums, pack_text
from einthoven.data.store.packs import IndexWriter, Packs
from einthoven.data.store.plan import Plan
from einthoven.data.store.record_readers import read_all
from einthoven.errors import UserError
from einthoven.functional.conform import Windows, cut_record, resample, round_to_int16

PACK_BYTES = 2**29  # signals of a pack; a build that is killed loses at most this much work
PACK_ENTRIES = 2**16  # entries in the index of a pack
LISTED = 20  # records that a message names
WRITE_BYTES = 2**20  # signals that are written at once

Progress = Callable[[int, int], None]


def pack(pool: Path, plan: Plan, missing: NDArray[np.int64], packs: Packs, progress: Progress | None = None) -> None:
    """Read the missing records of a plan and write packs of them into `pool`.

    Packs are finished one after the other. After an interruption, the next build continues with the next pack.

    With ``on_error="fail"``, the other records are packed before the error is raised: the message says how many records
    cannot be read, and the next build does not read the others again.

    Raises
    ------
    UserError
        If a record cannot be read (unless ``on_error="quarantine"``), or if records differ in length.
    """
    make_folder(pool)
    with closing(read_all(missing, partial(_read_entries, plan))) as records:
        failures = _write_packs(pool, plan, missing, packs, records, progress)
    if failures:
        raise _unreadable_records(failures, len(plan.files), plan.remedy)


def _write_packs(
    pool: Path,
    plan: Plan,
    missing: NDArray[np.int64],
    packs: Packs,
    records: Iterator[list[tuple[dict[str, Any], bytes | None]]],
    progress: Progress | None,
) -> list[tuple[str, str]]:
    """Write packs of the missing records of a plan, as they are read.

    Return names and reasons of the records that cannot be read, with ``on_error="fail"``.
    """
    total = len(plan.files)
    done = total - len(missing)
    # Without data.seconds, all signals of the pool must have the same length.
    lengths: set[int] = set(packs.samples) if plan.seconds is None else set()
    failures: list[tuple[str, str]] = []
    position = 0
    while position < len(missing):
        with working_folder(pool) as folder:
            index = IndexWriter(folder)
            sums = BlockSums()
            rows = 0
            written_bytes = 0
            own_digests: set[bytes] = set()
            with (folder / SIGNALS).open("wb", buffering=WRITE_BYTES) as file:
                while position < len(missing) and written_bytes < PACK_BYTES and index.entries < PACK_ENTRIES:
                    record = int(missing[position])
                    position += 1
                    for entry, signal in next(records):
                        if entry["reason"] and plan.on_error == "fail":
                            failures.append((plan.files[record].name, entry["reason"]))
                            break
                        # Write a signal only if neither this pack nor another one holds it.
                        row = -1
                        if signal is not None and not (entry["digest"] in own_digests or packs.holds(entry["digest"])):
                            own_digests.add(entry["digest"])
                            written_bytes += file.write(signal)
                            sums.add(signal)
                            row = rows
                            rows += 1
                        index.add({"row": row} | entry)
                        if entry["window"] == 0:
                            lengths.add(entry["samples"])
                    if len(lengths) > 1:
                        raise unequal_lengths(plan.files[record].name, lengths, plan.fs)
                    done += 1
                    if progress is not None:
                        progress(done, total)
                file.flush()
                os.fsync(file.fileno())
            pack_name, index_digest = index.close()
            if index.entries:
                (folder / PACK_FILE).write_text(pack_text(sums, index_digest), encoding="utf-8")
                publish(folder, pool / pack_name)
    return failures


def _unreadable_records(failures: Sequence[tuple[str, str]], total: int, remedy: str) -> UserError:
    """Return the error for records that cannot be read: the first reason, the names of all, and what to do."""
    first_reason = failures[0][1].rstrip(".")
    names = [name for name, _ in failures]
    rest = f", and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    listed = f" ({', '.join(names[:LISTED])}{rest})" if len(names) > 1 else ""
    return UserError(f"{first_reason}; {len(names):,} of {total:,} records cannot be read{listed}: {remedy}.")


def _read_entries(plan: Plan, row: int) -> list[tuple[dict[str, Any], bytes | None]]:
    """Return the index entries of the record in a row of the plan, each with its signal."""
    return list(_entries(plan, plan.files[row]))


def _entries(plan: Plan, file: Path) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """Yield the index entries of one record, each with its signal."""
    # Take the state before the record is read. If the record changes in the meantime, the next build notices it.
    main = main_file(file)
    others = other_files(main)
    files = {"main": file_state(main), "others": others, "state": other_files_state(main, others)}
    try:
        windows, invalid, clipped = _read_windows(plan, file)
    except UserError as error:
        empty = {"samples": 0, "invalid_samples": 0, "clipped_samples": 0, "valid_samples": 0, "start_s": 0.0}
        yield files | empty | {"window": -1, "digest": b"", "row": -1, "reason": str(error)}, None
        return
    for number, signal in enumerate(windows.signal):
        data = signal.tobytes()
        entry = {
            "window": number,
            "digest": short_digest(data),
            "samples": signal.shape[-1],
            "invalid_samples": int(invalid[number]),
            "clipped_samples": int(clipped[number]),
            "valid_samples": int(windows.valid_samples[number]),
            "start_s": float(windows.start_s[number]),
            "reason": "",
        }
        yield files | entry, data


def _read_windows(plan: Plan, file: Path) -> tuple[Windows, NDArray[np.int64], NDArray[np.int64]]:
    """Return the windows of one record in int16 µV, and the number of invalid and of clipped samples of each.

    If the record has to be resampled, or if its faults have to be counted per window, it is read a second time, in mV.
    """
    rules: dict[str, Any] = {"long": plan.long, "short": plan.short, "stride": plan.stride, "source": file.name}
    leads = tuple(plan.leads)
    reading = {**plan.reading, "option_style": plan.option_style, "only_where_missing": True}
    counts, fs, invalid, clipped = read_microvolts(file, leads, **reading)

    # Integers can be cut directly if the sampling frequency fits and the counts of faults are known per window.
    if fs == plan.fs:
        windows = cut_record(counts, fs, plan.seconds, **rules)  # type: ignore[arg-type]  # integers are cut like floats
        n = len(windows.signal)
        if n == 1 and counts.shape[1] <= windows.signal.shape[2]:
            return windows, np.array([invalid]), np.array([clipped])
        if invalid == clipped == 0:
            return windows, np.zeros(n, np.int64), np.zeros(n, np.int64)

    signal = resample(read_record(file, want=leads, **reading).signal, fs, plan.fs)
    windows = cut_record(signal, plan.fs, plan.seconds, **rules)
    packed, is_invalid, is_clipped = round_to_int16(windows.signal.astype(np.float64) * 1000.0)
    packed_windows = Windows(packed, windows.valid_samples, windows.start_s)  # type: ignore[arg-type]
    return packed_windows, is_invalid.sum(axis=(1, 2)), is_clipped.sum(axis=(1, 2))


def unequal_lengths(name: str, lengths: set[int], fs: float) -> UserError:
    """Return the error for records of different lengths; `name` is the record or the corpus."""
    listed = " and of ".join(map(str, sorted(lengths)))
    return UserError(
        f"{name}: records of {listed} samples at {fs:g} Hz found, but all records must have the same length; "
        "data.seconds=… cuts and pads them to one length."
    )


# ---------------------------------------------------------------- folders that are either complete or absent


def make_folder(path: Path) -> None:
    """Create a folder of the cache.

    Raises
    ------
    UserError
        If this is not possible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be made ({error.strerror}); data.cache names a folder for packed stores."
        ) from None


def publish(partial: Path, path: Path) -> None:
    """Give a finished folder its name. Another process may already have published the same folder."""
    try:
        partial.replace(path)
    except OSError:
        if not path.exists():
            raise
