"""What the examination of a store leaves beside it: ``doctor.parquet`` and ``quarantine.csv``."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.atomic import atomic, write_text
from einthoven.data.doctor.examination import examine_store
from einthoven.data.doctor.finding import CODES, SEVERITIES
from einthoven.data.store.packed_store import Store

if TYPE_CHECKING:
    import pandas as pd

QUARANTINE_FILE = "quarantine.csv"
QUARANTINE = ["ecg_id", "file", "reason"]


def examine_or_load(store: Store, progress: Callable[[int, int], None] | None = None) -> pd.DataFrame:
    """The examination of a store as in `examine_store`: read from ``doctor.parquet``, or made and written there.

    It is made again when the store or the doctor has changed.
    """
    import pandas as pd

    file, key = store.path / "doctor.parquet", _key(store)
    if file.exists():
        try:
            found = pd.read_parquet(file, page_checksum_verification=True)
        except (OSError, ValueError, KeyError, TypeError):  # damaged: what follows mends it
            found = pd.DataFrame()
        if found.attrs.get("doctor") == key and len(found) == len(store.table):
            return found
    found = examine_store(store, progress)
    found.attrs["doctor"] = key
    file.parent.mkdir(parents=True, exist_ok=True)  # of several sources together, nothing is on the disk yet
    with atomic(file) as partial:
        found.to_parquet(partial, write_page_checksum=True)
    return found


def _key(store: Store) -> str:
    code = b"".join(part.read_bytes() for part in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(store.fingerprint.encode() + code).hexdigest()


def update_quarantine(store: Store, found: pd.DataFrame) -> pd.DataFrame:
    """Records with errors and why, merged into the store's ``quarantine.csv``.

    Lines that are there of records that are not in the store, such as those that could not be read, stay.
    """
    import pandas as pd

    names = _names(store)
    rows = [
        (str(number), name, "; ".join(f"{f['code']}: {f['evidence']}" for f in findings if f["severity"] == "error"))
        for number, name, findings, severity in zip(
            found["ecg_id"], names, found["findings"], found["severity"], strict=True
        )
        if severity == "error"
    ]
    listed = pd.DataFrame(rows, columns=QUARANTINE, dtype=str)
    if len(store.quarantine):
        before = store.quarantine.astype(str)
        listed = pd.concat([before[~before["file"].isin(set(names))], listed], ignore_index=True)
    if len(listed) or len(store.quarantine):
        write_text(store.path / QUARANTINE_FILE, listed.to_csv(index=False))
    return listed


def _names(store: Store) -> list[str]:
    """What each record is called: the file, where the table says it, else its ecg_id."""
    names = store.table["ecg_id"].astype(str)
    for column in ("filename_hr" if store.fs > 100 else "filename_lr", "name", "path"):  # PTB-XL, CinC 2021, a folder
        if column in store.table:
            names = store.table[column].fillna(names)
    return [str(name) for name in names]


def count_findings(found: pd.DataFrame) -> list[tuple[str, str, str, int]]:
    """(code, severity, meaning, records) of every finding in a corpus, the most serious and frequent first."""
    records = Counter(pair for findings in found["findings"] for pair in {(f["code"], f["severity"]) for f in findings})
    rows = [(code, severity, CODES[code], count) for (code, severity), count in records.items()]
    return sorted(rows, key=lambda row: (-SEVERITIES.index(row[1]), -row[3], row[0]))
