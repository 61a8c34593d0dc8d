"""The rows of a store that is being built: its table and its fingerprint, made part by part from plan and packs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.store.packs import COLUMNS, Packs
from einthoven.data.store.plan import FORMAT, Plan
from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

WINDOWS = 100_000  # most windows of one record: with `slide`, ecg_id is that of the record times this, plus the window
FOUND = ("start_s", "valid_samples", "invalid_samples", "clipped_samples")  # columns that packs add to a table
PART = 10_000  # rows in memory at a time; the fingerprint has a header line for each part


@dataclass(frozen=True)
class Rows:
    """One row per signal.

    Attributes
    ----------
    plan : Plan
    packs : Packs
        They hold the signals.
    entries, record : ndarray of int64, shape (n,)
        Of each row: its entry in the packs, and its record in the plan.
    """

    plan: Plan
    packs: Packs
    entries: NDArray[np.int64]
    record: NDArray[np.int64]

    @classmethod
    def of(cls, plan: Plan, packs: Packs, first: NDArray[np.int64]) -> tuple[Rows, pd.DataFrame]:
        """The rows of all records that could be read, and a table of the others; `first` is as from `Packs.find`."""
        import pandas as pd

        rows = cls(plan, packs, *packs.windows(first))
        good = np.concatenate([np.empty(0, bool), *(part["window"] >= 0 for part in rows.read("window"))])
        out = rows.record[~good]
        quarantine = {
            "ecg_id": plan.table["ecg_id"].to_numpy()[out],
            "file": [plan.files[row].name for row in out.tolist()],
            "reason": packs.read(rows.entries[~good], "reason")["reason"],
        }
        return cls(plan, packs, rows.entries[good], rows.record[good]), pd.DataFrame(quarantine)

    def read(self, *columns: str) -> Iterator[dict[str, NDArray[Any]]]:
        """What the packs say of the rows, in parts; columns as in `Packs.read`."""
        for start in range(0, len(self.entries), PART):
            yield self.packs.read(self.entries[start : start + PART], *columns)

    def tables(self) -> Iterator[pd.DataFrame]:
        """The table, in parts.

        Raises
        ------
        UserError
            If a record has too many windows to be numbered.
        """
        plan = self.plan
        for number, part in enumerate(self.read("window", *FOUND)):
            table = plan.table.iloc[self.record[number * PART : (number + 1) * PART]].reset_index(drop=True)
            window = part["window"].astype(np.int64)
            if window.max() >= WINDOWS:
                raise UserError(
                    f"{plan.name}: a record of {window.max() + 1} windows found, expected {WINDOWS} or fewer."
                )
            record_id = table["ecg_id"].to_numpy(np.int64)
            yield table.assign(
                ecg_id=record_id * WINDOWS + window if plan.long == "slide" else record_id,
                record_id=record_id,
                **{name: part[name] for name in FOUND},
            )

    def fingerprint(self) -> str:
        """SHA-256 of what the store holds, however its signals are spread over packs."""
        plan = self.plan
        digest = hashlib.sha256(json.dumps([FORMAT, plan.fs, list(plan.leads), len(self.entries)]).encode())
        for part in self.read("digest"):
            digest.update(part["digest"].tobytes())
        for file in plan.tables:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        for table in self.tables():
            digest.update(table.to_csv(index=False).encode())
        return digest.hexdigest()

    def write_table(self, file: Path) -> None:
        """Write the table as parquet."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {field.name: field.type for field in pa.Schema.from_pandas(self.plan.table, preserve_index=False)}
        found = {name: pa.from_numpy_dtype(np.dtype(COLUMNS[name])) for name in FOUND}
        schema = pa.schema(list((types | {"record_id": pa.int64()} | found).items()))
        with pq.ParquetWriter(file, schema) as writer:
            for table in self.tables():
                writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))
