"""Caches as earlier versions wrote them: other numbers, other names of packs, and in format 3 no checksums."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from einthoven.data.store import checksums
from einthoven.data.store.store_folder import STORE_FILE
from einthoven.files import seal, unseal


def as_earlier_format(source: Any, number: int) -> None:
    """Give the cache of a source (PTB-XL, a folder or CinC) the names and files of format 3 or 4."""
    cache = Path(source.cache)
    plan = source._plan(None) if "download" in vars(source) else source._plan()
    pool = (cache / "packs" / plan.pool).rename(cache / "packs" / plan.earlier_pool)
    for store_file in cache.glob(f"stores/*/{STORE_FILE}"):
        meta = unseal(store_file.read_text())
        meta["packs"] = [[path.replace(plan.pool, pool.name), size] for path, size in meta["packs"]]
        meta["format"] = number
        if number == 3:
            del meta["files"]
        store_file.write_text(json.dumps(meta) if number == 3 else seal(meta))
    for pack_file in pool.glob(f"*/{checksums.PACK_FILE}"):
        if number == 3:
            pack_file.unlink()
        else:
            pack_file.write_text(seal(unseal(pack_file.read_text()) | {"format": number}))

    # The last check of the source has another name, too.
    state = source._state()
    state.file(cache).rename(replace(state, options=state.earlier_options).file(cache))
