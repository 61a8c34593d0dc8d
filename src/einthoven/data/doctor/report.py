"""The results of an examination that are saved in the folder of a store: ``doctor.parquet`` and ``quarantine.csv``."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven import functional
from einthoven.atomic import atomic, write_text
from einthoven.data.doctor.examination import examine_store
from einthoven.data.doctor.finding import CODES, SEVERITIES
from einthoven.data.record_names import FILE_COLUMNS, record_files
from einthoven.data.store.packed_store import Store
from einthoven.data.store.store_folder import QUARANTINE

if TYPE_CHECKING:
    import pandas as pd

QUARANTINE_COLUMNS = ["ecg_id", "file", "reason"]


def examine_or_load(store: Store, progress: Callable[[int, int], None] | None = None) -> pd.DataFrame:
    """Return the examination of a store.

    It is read from ``doctor.parquet`` in the folder of the store. If that file is missing or damaged, or if the store
    or the code that examines it changed, the store is examined and the file is written.

    Parameters
    ----------
    store : Store
    progress : callable, optional
        Called as ``progress(done, total)``.

    Returns
    -------
    DataFrame
        As `examine_store` returns it.
    """
    import pandas as pd

    file = store.path / "doctor.parquet"
    key = _key(store)

    # A damaged file is replaced.
    if file.exists():
        try:
            examination = pd.read_parquet(file, page_checksum_verification=True)
        except (OSError, ValueError, KeyError, TypeError):
            examination = pd.DataFrame()
        if examination.attrs.get("doctor") == key and len(examination) == len(store.table):
            return examination

    # A store of several sources has no folder yet.
    examination = examine_store(store, progress)
    examination.attrs["doctor"] = key
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as partial:
        examination.to_parquet(partial, write_page_checksum=True)
    return examination


def _key(store: Store) -> str:
    """Return a hash of the store, and of the code that examines it."""
    folders = (Path(__file__).parent, Path(str(functional.__file__)).parent)
    code = b"".join(module.read_bytes() for folder in folders for module in sorted(folder.glob("*.py")))
    return hashlib.sha256(store.fingerprint.encode() + code).hexdigest()


def update_quarantine(store: Store, examination: pd.DataFrame) -> pd.DataFrame:
    """Merge the records with errors into the ``quarantine.csv`` of the store, and return the whole list.

    Lines about records that are not in the store stay, for example about records that could not be read.
    """
    import pandas as pd

    names = _record_names(store)
    rows = []
    for number, name, findings, severity in zip(
        examination["ecg_id"], names, examination["findings"], examination["severity"], strict=True
    ):
        if severity == "error":
            errors = [f"{f['code']}: {f['evidence']}" for f in findings if f["severity"] == "error"]
            rows.append((str(number), name, "; ".join(errors)))
    quarantine = pd.DataFrame(rows, columns=QUARANTINE_COLUMNS, dtype=str)

    # Keep lines about records that are not in the store.
    if len(store.quarantine):
        before = store.quarantine.astype(str)
        others = before[~before["file"].isin(set(names))]
        quarantine = pd.concat([others, quarantine], ignore_index=True)
    if len(quarantine) or len(store.quarantine):
        write_text(store.path / QUARANTINE, quarantine.to_csv(index=False))
    return quarantine


def _record_names(store: Store) -> list[str]:
    """Return a name for each record: its file if the table states it, otherwise its ecg_id."""
    ptbxl_column = "filename_hr" if store.fs > 100 else "filename_lr"
    files = record_files(store.table, (*FILE_COLUMNS, ptbxl_column))
    return files.fillna(store.table["ecg_id"]).astype(str).tolist()


def count_findings(examination: pd.DataFrame) -> list[tuple[str, str, str, int]]:
    """Count the records with each finding.

    Returns
    -------
    list of (code, severity, meaning, number of records)
        The most serious and most frequent findings come first.
    """
    records: Counter[tuple[str, str]] = Counter()
    for findings in examination["findings"]:
        records.update({(finding["code"], finding["severity"]) for finding in findings})
    rows = [(code, severity, CODES[code], count) for (code, severity), count in records.items()]
    return sorted(rows, key=lambda row: (-SEVERITIES.index(row[1]), -row[3], row[0]))
