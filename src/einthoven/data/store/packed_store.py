"""The packed store: the records of a corpus as int16 µV with one gain for all leads, so that limb-lead laws survive.

A store is a folder with ``table.parquet`` (one row per signal), ``rows.npy`` (where in the packs each signal stands),
``digests.npy`` (by what each signal is known, `data.store.digests`), ``store.json`` (shape, sampling frequency,
leads, packs, fingerprint, and the checksums of these files and of itself) and, where records could not be read,
``quarantine.csv``. The signals are in packs (`data.store.packs`), and a store only points to them: records that
are added to a corpus are packed alone, labels that change cost no packing, and shards that were packed apart are
joined by opening the whole. Each folder is built beside its final place and renamed into it: it exists whole or not
at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from einthoven.data.store.checksums import NOTES as PACK_NOTES
from einthoven.data.store.checksums import SIGNALS, damaged
from einthoven.data.store.digests import FILE as DIGESTS
from einthoven.data.store.digests import Digests, add_digests, read_digests, sealed_bytes, without_blank
from einthoven.data.store.packing import (
    Progress,
    make_folder,
    pack,
    partial_folder,
    partial_name,
    publish,
    remove_abandoned,
)
from einthoven.data.store.packs import Packs
from einthoven.data.store.plan import FILE_FORMAT, FORMAT, Plan
from einthoven.data.store.signals import Signals
from einthoven.data.store.store_rows import Rows
from einthoven.data.tables import read_typed
from einthoven.errors import UserError
from einthoven.files import SEAL, check_ordinary, file_digest, seal, unseal

if TYPE_CHECKING:
    import pandas as pd

MILLIVOLT_PER_COUNT = 1e-3  # the store counts microvolts
NOTES = "store.json"
QUARANTINE = "quarantine.csv"

__all__ = ["MILLIVOLT_PER_COUNT", "Progress", "Store", "open_or_build", "open_store"]


@dataclass(frozen=True)
class Store:
    """An opened store.

    Attributes
    ----------
    path : Path
    signals : Signals, int16, shape (n, L, T)
        Amplitudes in µV, memory-mapped.
    table : DataFrame
        One row per signal: the corpus' own columns, and `record_id`, `start_s` (where in the record it begins),
        `valid_samples` (the rest is padding), `invalid_samples`, `clipped_samples`.
    fs : float
        Sampling frequency in Hz.
    leads : tuple of str
        The L leads, canonical names.
    fingerprint : str
        SHA-256 over signals, table and label tables: two stores with one fingerprint hold the same data.
    quarantine : DataFrame
        `ecg_id`, `file` and `reason` of the records that were left out, and of those in which the doctor found errors.
    notes : tuple of str
        What the user should know of how it was opened.
    stored_digests : ndarray of S16 or None
        Content digest of each row, where the folder has them.
    checked : float or None
        When the files of its records were last checked (Unix time), where that was not done on opening it.
    """

    path: Path
    signals: Signals
    table: pd.DataFrame
    fs: float
    leads: tuple[str, ...]
    fingerprint: str
    quarantine: pd.DataFrame
    notes: tuple[str, ...] = ()
    stored_digests: Digests | None = None
    checked: float | None = None

    @cached_property
    def digests(self) -> Digests:
        """Content digest of each row (n,), as in `data.store.digests`."""
        if self.stored_digests is not None:
            return self.stored_digests
        return add_digests(self.path, self.signals)


def open_or_build(
    plan: Plan, cache: Path, progress: Progress | None = None, shard: tuple[int, int] | None = None
) -> Store:
    """Open the store of a plan, reading those records that are new or have changed since they were packed.

    Parameters
    ----------
    plan : Plan
    cache : Path
        Folder for packed stores.
    progress : callable, optional
        Called with (records done, records in all) while records are read.
    shard : (int, int), optional
        (k, n): only the k-th of n parts of the records, k from 0. The whole then finds them packed.

    Raises
    ------
    UserError
        If a record cannot be read, or records differ where they may not.
    """
    path, notes = _build(plan if shard is None else plan.part(*shard), cache, progress), plan.notes
    del plan  # its table need not be in memory beside that of the store
    return replace(open_store(path), notes=notes)


def _build(plan: Plan, cache: Path, progress: Progress | None) -> Path:
    """The store of a plan, whatever it takes; the index of the packs is in memory no longer than this lasts."""
    pool, failed = cache / "packs" / plan.pool, plan.on_error == "quarantine"
    packs = Packs(pool, len(plan.leads))
    first = packs.find(plan.files, failed)
    if (first < 0).any():
        pack(pool, plan, np.flatnonzero(first < 0), packs, progress)
        del packs  # one index in memory at a time
        packs = Packs(pool, len(plan.leads))
        first = packs.find(plan.files, failed)
        if (first < 0).any():
            file = plan.files[int(np.argmin(first))]
            raise UserError(f"{file.name}: changed while it was being read; try again when its folder is at rest.")
    rows, quarantine = Rows.of(plan, packs, first)
    if not len(rows.entries):
        found = f"{quarantine['file'][0]}: {quarantine['reason'][0]}" if len(quarantine) else "there are none."
        raise UserError(f"{plan.name}: no record can be read; the first: {found}")
    samples = sorted(set[int]().union(*(part["samples"].tolist() for part in rows.read("samples"))))
    if len(samples) > 1:
        raise UserError(
            f"{plan.name}: records of {' and of '.join(map(str, samples))} samples at {plan.fs:g} Hz found, expected "
            "all equally long; data.seconds=… brings them to one length."
        )
    fingerprint = rows.fingerprint()
    path = cache / "stores" / f"{plan.name}-{plan.fs:g}hz-{fingerprint[:16]}"
    if not is_complete(path) or _has_no_checksums(path):
        _write(path, rows, samples[0], quarantine, fingerprint)
    return path


def is_complete(path: Path) -> bool:
    """Whether a store, the packs that it points to and their checksums are there, damaged or not."""
    if not path.is_dir():
        return False
    try:
        meta = _read_notes(path)
        # Without its checksums a pack would be read unchecked: building the store anew checks it, and adds them.
        needed = (SIGNALS, PACK_NOTES) if meta["format"] == FILE_FORMAT else (SIGNALS,)
        return all((path / name / file).exists() for name, _ in meta["packs"] for file in needed)
    except (OSError, ValueError, KeyError, TypeError):  # opening the store says what is wrong
        return True


def _has_no_checksums(path: Path) -> bool:
    """Whether a store was made by version 0.1."""
    try:
        return bool(_read_notes(path)["format"] < FILE_FORMAT)
    except (OSError, ValueError):
        return False


def _read_notes(path: Path) -> dict[str, Any]:
    """What ``store.json`` holds; that of version 0.1 has no checksums.

    Raises
    ------
    OSError, ValueError
        If it is damaged.
    """
    try:
        text = (path / NOTES).read_text(encoding="utf-8")
        content: dict[str, Any] = json.loads(text)
        return content if SEAL not in content and content["format"] == FORMAT else unseal(text)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{NOTES}: {error}") from None


def open_store(path: Path) -> Store:
    """Open a store; signals are memory-mapped, nothing is read yet.

    Raises
    ------
    UserError
        If one of its files, or one of the packs that it points to, is missing or damaged.
    """
    import pandas as pd

    try:
        check_ordinary(path)
        meta = _read_notes(path)
        if meta["format"] > FILE_FORMAT:
            raise UserError(f"{path}: a store of form {meta['format']}; this version reads those up to {FILE_FORMAT}.")
        for name, digest in meta.get("files", {}).items():
            if file_digest(path / name) != digest:
                raise ValueError(f"{name} is not what was written")
        n, leads, samples = meta["shape"]
        rows = np.load(path / "rows.npy")
        files = [Path(os.path.normpath(path / name)) / SIGNALS for name, _ in meta["packs"]]
        sizes = [size for _, size in meta["packs"]]
        for file, size in zip(files, sizes, strict=True):
            expected, found = 2 * size * leads * samples, file.stat().st_size
            if found != expected:
                raise damaged(file.parent, f"{SIGNALS} has {found} bytes, expected {expected}")
        table = pd.read_parquet(path / "table.parquet")
        if not len(table) == len(rows) == n:
            raise ValueError(f"table.parquet has {len(table)} rows, rows.npy {len(rows)}, expected {n}")
        if rows.dtype != np.int64 or rows.ndim != 1 or not ((rows >= 0) & (rows < sum(sizes))).all():
            raise ValueError("rows.npy names rows that no pack has")
        quarantine = pd.DataFrame(columns=["ecg_id", "file", "reason"])
        if (listed := path / QUARANTINE).exists():
            quarantine = read_typed(listed, ("file", "reason"), "expected the records that were left out")
        signals = Signals(files, sizes, rows, leads, samples)
        digests = read_digests(path, n)
        fs, read_leads, fingerprint = meta["fs"], tuple(meta["leads"]), meta["fingerprint"]
        return Store(path, signals, table, fs, read_leads, fingerprint, quarantine, stored_digests=digests)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:  # pyarrow's errors are among them
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: a damaged store ({reason}); delete that folder, and it is built anew.") from None


def _write(path: Path, rows: Rows, samples: int, quarantine: pd.DataFrame, fingerprint: str) -> None:
    plan, packs = rows.plan, rows.packs
    make_folder(path.parent)
    remove_abandoned(path.parent)
    place = np.concatenate([part["place"] for part in rows.read("place")])
    starts = np.concatenate([[0], np.cumsum(packs.sizes, dtype=np.int64)])
    pack_of = np.searchsorted(starts, place, "right") - 1
    used, compact = np.unique(pack_of, return_inverse=True)  # the packs that this store points to
    sizes = [packs.sizes[number] for number in used]
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    with partial_folder(path.parent) as folder:
        np.save(folder / "rows.npy", place - starts[pack_of] + offsets[compact])
        digests = np.concatenate([part["digest"] for part in rows.read("digest")])
        np.save(folder / DIGESTS, sealed_bytes(without_blank(digests, len(plan.leads), samples)))
        rows.write_table(folder / "table.parquet")
        files = {file.name: file_digest(file) for file in sorted(folder.iterdir())}
        if len(quarantine):
            quarantine.to_csv(folder / QUARANTINE, index=False)  # the doctor may add to it
        meta = {
            "format": FILE_FORMAT,
            "shape": [len(place), len(plan.leads), samples],
            "fs": plan.fs,
            "leads": list(plan.leads),
            "packs": [
                [os.path.relpath(packs.folders[number], path), size] for number, size in zip(used, sizes, strict=True)
            ],
            "fingerprint": fingerprint,
            "files": files,
        }
        (folder / NOTES).write_text(seal(meta), encoding="utf-8")
        # Another process may have written the same store in the meantime, and may have it open.
        if not is_complete(path) or _has_no_checksums(path):
            _take_away(path, folder)
            publish(folder, path)


def _take_away(path: Path, successor: Path) -> None:
    """Make room for a store that is built anew: the old one has no checksums, or points to packs that are gone."""
    old = partial_name(path.parent)
    with contextlib.suppress(FileNotFoundError):  # there is none, or another process does the same
        path.rename(old)
        for file in old.iterdir():
            if not (successor / file.name).exists():  # what the doctor left there
                file.replace(successor / file.name)
        shutil.rmtree(old, ignore_errors=True)
