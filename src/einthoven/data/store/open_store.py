"""Open a store: its files are compared with their checksums, and its rows are found in the packs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.store.checksums import SIGNALS, damaged
from einthoven.data.store.digests import read_digests
from einthoven.data.store.merged_packs import Place, find_signals
from einthoven.data.store.packed_store import Store
from einthoven.data.store.plan import FORMAT
from einthoven.data.store.signals import Signals
from einthoven.data.store.store_folder import QUARANTINE, pack_folder, read_store_file
from einthoven.data.tables import read_typed
from einthoven.errors import UserError
from einthoven.files import check_ordinary, file_digest


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
    meta = read_store_file(path)
    if meta["format"] > FORMAT:
        raise UserError(f"{path}: a store of format {meta['format']}; this version reads formats up to {FORMAT}.")
    for name, digest in meta.get("files", {}).items():
        if file_digest(path / name) != digest:
            raise ValueError(f"{name} is not what was written")

    # The packs must exist and have the recorded sizes.
    n, leads, samples = meta["shape"]
    stored_sizes = [size for _, size in meta["packs"]]
    packs = [pack_folder(path, name) for name, _ in meta["packs"]]
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


def _count_rows(folder: Path, leads: int, samples: int) -> int:
    """Return the number of signals in a pack. A pack with a part of a signal is refused."""
    actual = (folder / SIGNALS).stat().st_size
    row_bytes = 2 * leads * samples
    if actual % row_bytes:
        raise damaged(folder, f"{SIGNALS} has {actual} bytes, expected a multiple of {row_bytes}")
    return actual // row_bytes


def _rows_now(
    rows: NDArray[np.int64], stored_sizes: list[int], places: list[Place], sizes: dict[Path, int]
) -> NDArray[np.int64]:
    """Return where rows are now, if packs were merged since the store was written.

    The rows are counted over the packs that the store names, which have `stored_sizes` rows and now are in `places`.
    The result counts over all rows of these places (`sizes`).
    """
    starts = np.concatenate([[0], np.cumsum(stored_sizes, dtype=np.int64)])
    starts_now = dict(zip(sizes, np.cumsum([0, *sizes.values()], dtype=np.int64)[:-1].tolist(), strict=True))
    firsts = np.array([starts_now[place.folder] + place.first_row for place in places], np.int64)
    pack = np.searchsorted(starts, rows, "right") - 1
    return firsts[pack] + rows - starts[pack]


def _describe_format(path: Path, number: int, fs: float) -> tuple[str, ...]:
    """Return a sentence about a store of an earlier format, and nothing about the present one."""
    if number == FORMAT:
        return ()
    return (
        f"{path.name}: a store of format {number}, made by an earlier version. If its records were resampled to {fs:g} "
        f"Hz, up to 25 % of a tone just above {fs / 2:g} Hz is in them as an alias",
    )
