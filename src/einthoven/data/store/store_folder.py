"""The folder of a store: reading ``store.json``, and what it says about the store without opening it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from einthoven.data.store.checksums import PACK_FILE, SIGNALS
from einthoven.data.store.merged_packs import find_signals
from einthoven.data.store.plan import CHECKSUM_FORMAT, FORMAT
from einthoven.files import SEAL, unseal

STORE_FILE = "store.json"
QUARANTINE = "quarantine.csv"


def is_complete(path: Path) -> bool:
    """Whether a store, the packs that it points to, and their checksums exist. They may be damaged."""
    if not path.is_dir():
        return False
    try:
        meta = read_store_file(path)
        # A pack without its checksums would be read unchecked. Building the store again checks it and adds them.
        needed = (SIGNALS, PACK_FILE) if meta["format"] >= CHECKSUM_FORMAT else (SIGNALS,)
        folders = {find_signals(pack_folder(path, name)).folder for name, _ in meta["packs"]}
        return all((folder / file).exists() for folder in folders for file in needed)
    except (OSError, ValueError, KeyError, TypeError):
        # The store is damaged. `open_store` raises the error that says how.
        return True


def is_older(path: Path) -> bool:
    """Whether a store has an earlier format."""
    try:
        return bool(read_store_file(path)["format"] < FORMAT)
    except (OSError, ValueError):
        return False


def read_store_file(path: Path) -> dict[str, Any]:
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


def pack_folder(path: Path, name: str) -> Path:
    """Return the folder of a pack by its name in ``store.json``, which is relative to the folder of the store."""
    return Path(os.path.normpath(path / name))
