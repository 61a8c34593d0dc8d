"""Write the folder of a store, next to its final place, and then give it its name."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from einthoven.atomic import working_folder
from einthoven.data.store.digests import FILE as DIGESTS
from einthoven.data.store.digests import sealed_bytes, without_blank
from einthoven.data.store.packing import make_folder, publish
from einthoven.data.store.plan import FORMAT
from einthoven.data.store.store_folder import QUARANTINE, STORE_FILE, is_complete, is_older
from einthoven.data.store.store_rows import StoreRows
from einthoven.files import file_digest, seal

if TYPE_CHECKING:
    import pandas as pd


def write_store(path: Path, rows: StoreRows, samples: int, quarantine: pd.DataFrame, fingerprint: str) -> None:
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
        if not is_complete(path) or is_older(path):
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
