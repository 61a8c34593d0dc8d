"""Build the store of a plan: the records that no pack holds yet are packed, and a folder points to the packs."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from einthoven.data.store.merged_packs import merge_packs
from einthoven.data.store.open_store import open_store
from einthoven.data.store.packed_store import Store
from einthoven.data.store.packing import Progress, pack, unequal_lengths
from einthoven.data.store.packs import Packs
from einthoven.data.store.plan import Plan
from einthoven.data.store.store_folder import is_complete, is_older
from einthoven.data.store.store_origin import FILE as ORIGIN
from einthoven.data.store.store_rows import StoreRows
from einthoven.data.store.write_store import write_store
from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


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
    path, merge_note = _build(part, cache, progress)
    if merge_note:
        notes += (merge_note,)
    # Free the table of the plan before the table of the store is loaded.
    del plan, part
    return replace(open_store(path), notes=notes)


def _describe_packing(name: str, earlier_pool: Path) -> str:
    """Return the sentence about records that an earlier version has packed."""
    return (
        f"{name}: an earlier version packed these records. They were packed again, because records with another "
        f"sampling frequency are now resampled with a steeper filter; {earlier_pool} is no longer used"
    )


def _build(plan: Plan, cache: Path, progress: Progress | None) -> tuple[Path, str]:
    """Build the store of a plan if it does not exist yet. Return its folder, and the note of `merge_packs`.

    The index of the packs is in memory only during this call.
    """
    merge_note = ""
    pool = cache / "packs" / plan.pool
    accepts_failed = plan.on_error == "quarantine"
    packs = Packs(pool, len(plan.leads))
    first = packs.find(plan.files, accepts_failed)

    # Pack the records that no pack contains yet.
    if (first < 0).any():
        pack(pool, plan, np.flatnonzero(first < 0), packs, progress)
        merge_note = merge_packs(pool, len(plan.leads))
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
    if not is_complete(path) or is_older(path):
        write_store(path, rows, lengths.pop(), quarantine, fingerprint)
    elif plan.origin is not None and not (path / ORIGIN).exists():
        # An earlier version wrote the store. If its folder cannot be written, it is used as it is.
        with contextlib.suppress(OSError):
            plan.origin.write(path)
    return path, merge_note


def _with_absent(unreadable: pd.DataFrame, absent: pd.DataFrame | None) -> pd.DataFrame:
    """Return the records that are left out: those that cannot be read, and those without a file."""
    import pandas as pd

    if absent is None or not len(absent):
        return unreadable
    listed = absent.assign(reason="its file does not exist")
    return pd.concat([unreadable, listed], ignore_index=True)
