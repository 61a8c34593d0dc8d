"""The packed store: the records of a corpus as int16 µV, with one gain for all leads so that the limb-lead laws hold.

A store is a folder with these files:

- ``table.parquet``: one row per signal.
- ``rows.npy``: the row in the packs of each signal.
- ``digests.npy``: the content digest of each signal (`data.store.digests`).
- ``store.json``: shape, sampling frequency, leads, packs, fingerprint, and the checksums of all these files.
- ``quarantine.csv``: the records that could not be read, if there are any.
- ``source.json`` and ``labels/``: what labels are made from without the source (`data.store.store_origin`).

The signals are in packs (`data.store.packs`); a store only points to them. So records that are added to a corpus are
packed alone, a change of labels needs no packing, and shards that were packed separately are joined when the whole
corpus is opened. Each folder is built next to its final place and then renamed: it is either complete or absent.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import working_folder
from einthoven.data.store.checksums import PACK_FILE, SIGNALS, damaged
from einthoven.data.store.digests import FILE as DIGESTS
from einthoven.data.store.digests import (
    FIRST_SECONDS,
    Digests,
    add_digests,
    add_first_seconds,
    read_digests,
    sealed_bytes,
    without_blank,
)
from einthoven.data.store.merged_packs import Place, find_signals, merge_packs
from einthoven.data.store.packing import (
    Progress,
    make_folder,
    pack,
    publish,
    unequal_lengths,
)
from einthoven.data.store.packs import Packs
from einthoven.data.store.plan import CHECKSUM_FORMAT, FORMAT, Plan
from einthoven.data.store.signals import Signals
from einthoven.data.store.store_origin import FILE as ORIGIN
from einthoven.data.store.store_origin import Origin
from einthoven.data.store.store_rows import StoreRows
from einthoven.data.tables import read_typed
from einthoven.errors import UserError
from einthoven.files import BAD_ARRAY_HEADER, SEAL, check_ordinary, file_digest, seal, unseal

if TYPE_CHECKING:
    import pandas as pd

MILLIVOLT_PER_COUNT = 1e-3  # the store counts microvolts
STORE_FILE = "store.json"
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
        One row per signal: the columns of the corpus, and `record_id`, `start_s` (where the signal begins in its
        record), `valid_samples` (the other samples are padding), `invalid_samples`, `clipped_samples`.
    fs : float
        Sampling frequency in Hz.
    leads : tuple of str
        The L leads, canonical names.
    fingerprint : str
        SHA-256 of signals, table and label tables: two stores with the same fingerprint hold the same data.
    quarantine : DataFrame
        `ecg_id`, `file` and `reason` of the records that were left out, and of those in which the doctor found errors.
    notes : tuple of str
        Notes for the user about how the store was opened.
    stored_digests : ndarray of S16 or None
        Content digest of each row, if the folder has them.
    checked : float or None
        Unix time of the last check of the record files, if they were not checked when this store was opened.
    origin : Origin or None
        The source that made this store, if the store was opened without it.
    parts : tuple of (Store, ndarray of int64)
        The stores that this one joins, and their rows; empty if it has a folder of its own.
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
    origin: Origin | None = None
    parts: tuple[tuple[Store, NDArray[np.int64]], ...] = ()

    @property
    def left_out(self) -> pd.DataFrame:
        """The rows of `quarantine` that are not in the store. The others are records with findings of the doctor."""
        is_in_store = self.quarantine["ecg_id"].isin({*self.table["record_id"], *self.table["ecg_id"]})
        return self.quarantine[~is_in_store]

    @property
    def records_left_out(self) -> str:
        """A sentence without its end, such as "3 of 120 records are left out"; empty if no record is left out."""
        count = len(self.left_out)
        total = self.table["record_id"].nunique() + count
        return f"{count:,} of {total:,} records {'is' if count == 1 else 'are'} left out" if count else ""

    @cached_property
    def digests(self) -> Digests:
        """Content digest of each row (n,), as in `data.store.digests`."""
        if self.stored_digests is not None:
            return self.stored_digests
        return add_digests(self.path, self.signals)

    @cached_property
    def first_seconds(self) -> Digests:
        """Content digest of the first second of each record (n,); empty for a row that begins later in its record.

        They are computed on first use, as they are needed only if a model is made from another one.
        """
        if self.parts:
            return np.concatenate([store.first_seconds[rows] for store, rows in self.parts])
        digests = None
        # A damaged file is written again.
        with contextlib.suppress(ValueError, *BAD_ARRAY_HEADER):
            digests = read_digests(self.path, len(self.signals), FIRST_SECONDS)
        if digests is None:
            digests = add_first_seconds(self.path, self.signals, self.fs)
        begins_record = self.table["start_s"].to_numpy(np.float64) == 0
        return np.where(begins_record, digests, b"").astype(digests.dtype)


def open_or_build(
    plan: Plan, cache: Path, progress: Progress | None = None, shard: tuple[int, int] | None = None
) -> Store:
    """Open the store of a plan; read the records that are new or have changed since they were packed.

    Parameters
    ----------
    plan : Plan
    cache : Path
        Folder for packed stores.
    progress : callable, optional
        Called with (records done, records in all) while records are read.
    shard : (int, int), optional
        (k, n): read only the k-th of n parts of the records, k from 0. A later call for all records finds them packed.

    Raises
    ------
    UserError
        If a record cannot be read, or if records differ in a property that has to be equal.
    """
    pool = cache / "packs" / plan.pool
    earlier_pool = cache / "packs" / plan.earlier_pool
    notes = plan.notes
    if earlier_pool.is_dir() and not pool.is_dir():
        notes += (_describe_packing(plan.name, earlier_pool),)
    part = plan if shard is None else plan.part(*shard)
    path = _build(part, cache, progress)
    # Free the table of the plan before the table of the store is loaded.
    del plan, part
    return replace(open_store(path), notes=notes)


def _describe_packing(name: str, earlier_pool: Path) -> str:
    """Return the sentence about records that an earlier version has packed."""
    return (
        f"{name}: an earlier version packed these records. They were packed again, because records with another "
        f"sampling frequency are now resampled with a steeper filter; {earlier_pool} is no longer used"
    )


def _build(plan: Plan, cache: Path, progress: Progress | None) -> Path:
    """Build the store of a plan if it does not exist yet. The index of the packs is in memory only during this call."""
    pool = cache / "packs" / plan.pool
    accepts_failed = plan.on_error == "quarantine"
    packs = Packs(pool, len(plan.leads))
    first = packs.find(plan.files, accepts_failed)

    # Pack the records that no pack contains yet.
    if (first < 0).any():
        pack(pool, plan, np.flatnonzero(first < 0), packs, progress)
        merge_packs(pool, len(plan.leads))
        # Free the old index before the new one is loaded.
        del packs
        packs = Packs(pool, len(plan.leads))
        first = packs.find(plan.files, accepts_failed)
        if (first < 0).any():
            file = plan.files[int(np.argmin(first))]
            raise UserError(
                f"{file.name}: changed while it was being read; try again when no program writes to its folder."
            )

    rows, unreadable = StoreRows.from_plan(plan, packs, first)
    quarantine = _with_absent(unreadable, plan.absent)
    if not len(rows.entries):
        if not len(quarantine):
            raise UserError(f"{plan.name}: there are no records; expected at least one.")
        first_error = f"{quarantine['file'][0]}: {quarantine['reason'][0]}"
        raise UserError(f"{plan.name}: no record can be read; the first: {first_error}")
    lengths: set[int] = set()
    for part in rows.read("samples"):
        lengths.update(part["samples"].tolist())
    if len(lengths) > 1:
        raise unequal_lengths(plan.name, lengths, plan.fs)
    fingerprint = rows.fingerprint()
    path = cache / "stores" / f"{plan.name}-{plan.fs:g}hz-{fingerprint[:16]}"
    if not is_complete(path) or _is_older(path):
        _write(path, rows, lengths.pop(), quarantine, fingerprint)
    elif plan.origin is not None and not (path / ORIGIN).exists():
        # An earlier version wrote the store. If its folder cannot be written, it is used as it is.
        with contextlib.suppress(OSError):
            plan.origin.write(path)
    return path


def _with_absent(unreadable: pd.DataFrame, absent: pd.DataFrame | None) -> pd.DataFrame:
    """Return the records that are left out: those that cannot be read, and those without a file."""
    import pandas as pd

    if absent is None or not len(absent):
        return unreadable
    listed = absent.assign(reason="its file does not exist")
    return pd.concat([unreadable, listed], ignore_index=True)


def is_complete(path: Path) -> bool:
    """Whether a store, the packs that it points to, and their checksums exist. They may be damaged."""
    if not path.is_dir():
        return False
    try:
        meta = _read_store_file(path)
        # A pack without its checksums would be read unchecked. Building the store again checks it and adds them.
        needed = (SIGNALS, PACK_FILE) if meta["format"] >= CHECKSUM_FORMAT else (SIGNALS,)
        folders = {find_signals(_pack_folder(path, name)).folder for name, _ in meta["packs"]}
        return all((folder / file).exists() for folder in folders for file in needed)
    except (OSError, ValueError, KeyError, TypeError):
        # The store is damaged. `open_store` raises the error that says how.
        return True


def _is_older(path: Path) -> bool:
    """Whether a store has an earlier format."""
    try:
        return bool(_read_store_file(path)["format"] < FORMAT)
    except (OSError, ValueError):
        return False


def _read_store_file(path: Path) -> dict[str, Any]:
    """Read ``store.json``. The file of a store without checksums has none of its own.

    Raises
    ------
    OSError, ValueError
        If it is damaged.
    """
    try:
        text = (path / STORE_FILE).read_text(encoding="utf-8")
        content: dict[str, Any] = json.loads(text)
        has_no_checksums = SEAL not in content and content["format"] < CHECKSUM_FORMAT
        return content if has_no_checksums else unseal(text)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{STORE_FILE}: {error}") from None


def open_store(path: Path) -> Store:
    """Open a store. Signals are memory-mapped and not read yet.

    Raises
    ------
    UserError
        If one of its files, or one of the packs that it points to, is missing or damaged.
    """
    try:
        try:
            return _open(path)
        except FileNotFoundError:
            # Another process may have merged a pack after its signals were looked up. Then they are found elsewhere.
            return _open(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        # The errors of pyarrow are subclasses of these.
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: a damaged store ({reason}); delete that folder, and it is built anew.") from None


def _open(path: Path) -> Store:
    """Do the work of `open_store`. The errors are those of the files."""
    import pandas as pd

    check_ordinary(path)
    meta = _read_store_file(path)
    if meta["format"] > FORMAT:
        raise UserError(f"{path}: a store of format {meta['format']}; this version reads formats up to {FORMAT}.")
    for name, digest in meta.get("files", {}).items():
        if file_digest(path / name) != digest:
            raise ValueError(f"{name} is not what was written")

    # The packs must exist and have the recorded sizes.
    n, leads, samples = meta["shape"]
    stored_sizes = [size for _, size in meta["packs"]]
    packs = [_pack_folder(path, name) for name, _ in meta["packs"]]
    places = [find_signals(pack) for pack in packs]
    sizes: dict[Path, int] = {}
    for folder, place, size in zip(packs, places, stored_sizes, strict=True):
        if place.folder not in sizes:
            sizes[place.folder] = _count_rows(place.folder, leads, samples)
        rows_there = sizes[place.folder]
        is_there = rows_there == size if place.folder == folder else rows_there >= place.first_row + size
        if not is_there:
            raise damaged(place.folder, f"{SIGNALS} has {rows_there} rows, expected {place.first_row + size}")

    # The table and the rows must fit each other and the packs.
    rows = np.load(path / "rows.npy")
    table = pd.read_parquet(path / "table.parquet")
    if not len(table) == len(rows) == n:
        raise ValueError(f"table.parquet has {len(table)} rows, rows.npy {len(rows)}, expected {n}")
    if rows.dtype != np.int64 or rows.ndim != 1 or not ((rows >= 0) & (rows < sum(stored_sizes))).all():
        raise ValueError("rows.npy names rows that no pack has")
    rows = _rows_now(rows, stored_sizes, places, sizes)

    quarantine_file = path / QUARANTINE
    quarantine = pd.DataFrame(columns=["ecg_id", "file", "reason"])
    if quarantine_file.exists():
        quarantine = read_typed(quarantine_file, ("file", "reason"), "expected the records that were left out")
    return Store(
        path=path,
        signals=Signals([folder / SIGNALS for folder in sizes], list(sizes.values()), rows, leads, samples),
        table=table,
        fs=meta["fs"],
        leads=tuple(meta["leads"]),
        fingerprint=meta["fingerprint"],
        quarantine=quarantine,
        notes=_describe_format(path, meta["format"], meta["fs"]),
        stored_digests=read_digests(path, n),
    )


def _pack_folder(path: Path, name: str) -> Path:
    """Return the folder of a pack by its name in ``store.json``, which is relative to the folder of the store."""
    return Path(os.path.normpath(path / name))


def _count_rows(folder: Path, leads: int, samples: int) -> int:
    """Return the number of signals in a pack.

    Raises
    ------
    UserError
        If the size of the file is no multiple of a signal.
    """
    actual = (folder / SIGNALS).stat().st_size
    row_bytes = 2 * leads * samples
    if actual % row_bytes:
        raise damaged(folder, f"{SIGNALS} has {actual} bytes, expected a multiple of {row_bytes}")
    return actual // row_bytes


def _rows_now(
    rows: NDArray[np.int64], stored_sizes: list[int], places: list[Place], sizes: dict[Path, int]
) -> NDArray[np.int64]:
    """Return where rows are now, if packs were merged since the store was written.

    Parameters
    ----------
    rows : ndarray of int64
        Counted over the packs that the store names, which have `stored_sizes` rows.
    places : list of Place
        Where the signals of each of these packs are.
    sizes : dict of Path to int
        Rows of the packs of these places. The result counts over them.
    """
    starts = np.concatenate([[0], np.cumsum(stored_sizes, dtype=np.int64)])
    starts_now = dict(zip(sizes, np.cumsum([0, *sizes.values()], dtype=np.int64)[:-1].tolist(), strict=True))
    firsts = np.array([starts_now[place.folder] + place.first_row for place in places], np.int64)
    pack = np.searchsorted(starts, rows, "right") - 1
    moved: NDArray[np.int64] = firsts[pack] + rows - starts[pack]
    return moved


def _describe_format(path: Path, number: int, fs: float) -> tuple[str, ...]:
    """Return a sentence about a store of an earlier format, and nothing about the present one."""
    if number == FORMAT:
        return ()
    return (
        f"{path.name}: a store of format {number}, made by an earlier version. If its records were resampled to {fs:g} "
        f"Hz, up to 25 % of a tone just above {fs / 2:g} Hz is in them as an alias",
    )


def _write(path: Path, rows: StoreRows, samples: int, quarantine: pd.DataFrame, fingerprint: str) -> None:
    """Write the folder of a store."""
    plan = rows.plan
    packs = rows.packs
    make_folder(path.parent)

    # `place` counts over all packs of the pool. The store points only to the packs that it uses, so the rows are
    # counted again over these.
    place = np.concatenate([part["place"] for part in rows.read("place")])
    starts = np.concatenate([[0], np.cumsum(packs.sizes, dtype=np.int64)])
    pack_of_row = np.searchsorted(starts, place, "right") - 1
    used_packs, used_pack_of_row = np.unique(pack_of_row, return_inverse=True)
    used_sizes = [packs.sizes[number] for number in used_packs]
    used_starts = np.concatenate([[0], np.cumsum(used_sizes, dtype=np.int64)])

    with working_folder(path.parent) as folder:
        np.save(folder / "rows.npy", place - starts[pack_of_row] + used_starts[used_pack_of_row])
        digests = np.concatenate([part["digest"] for part in rows.read("digest")])
        np.save(folder / DIGESTS, sealed_bytes(without_blank(digests, len(plan.leads), samples)))
        rows.write_table(folder / "table.parquet")
        file_digests = {file.name: file_digest(file) for file in sorted(folder.iterdir())}
        # A store of an earlier version gets its origin later, so that file has a checksum of its own.
        if plan.origin is not None:
            plan.origin.write(folder)
        # The doctor may add rows to the quarantine later, so that file has no checksum.
        if len(quarantine):
            quarantine.to_csv(folder / QUARANTINE, index=False)
        pack_paths = [os.path.relpath(packs.folders[number], path) for number in used_packs]
        meta = {
            "format": FORMAT,
            "shape": [len(place), len(plan.leads), samples],
            "fs": plan.fs,
            "leads": list(plan.leads),
            "packs": [[pack_path, size] for pack_path, size in zip(pack_paths, used_sizes, strict=True)],
            "fingerprint": fingerprint,
            "files": file_digests,
        }
        (folder / STORE_FILE).write_text(seal(meta), encoding="utf-8")
        # Another process may have written the same store in the meantime, and may have opened it.
        if not is_complete(path) or _is_older(path):
            _remove_old(path, folder)
            publish(folder, path)


def _remove_old(path: Path, successor: Path) -> None:
    """Make room for a store that is built again: the old one has an earlier format, or its packs no longer exist."""
    # The working folder is deleted, and the old store with it.
    old = successor.with_name("old")
    # The rename fails if there is no old store, or if another process does the same.
    with contextlib.suppress(FileNotFoundError):
        path.rename(old)
        # Keep the files that the doctor wrote into the old folder.
        for file in old.iterdir():
            if not (successor / file.name).exists():
                file.replace(successor / file.name)
