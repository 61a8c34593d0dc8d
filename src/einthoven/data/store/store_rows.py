"""The rows of a store that is being built: its table and its fingerprint, made in parts from a plan and its packs."""

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
from einthoven.data.store.plan import CONTENT_FORMAT, Plan
from einthoven.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

MOST_WINDOWS = 100_000  # of one record: with `slide`, the ecg_id is that of the record times this, plus the window
PACK_COLUMNS = ("start_s", "valid_samples", "invalid_samples", "clipped_samples")  # packs add them to the table
PART = 10_000  # rows in memory at once; the fingerprint contains a header line for each part


@dataclass(frozen=True)
class StoreRows:
    """The rows of a store, one per signal.

    Attributes
    ----------
    plan : Plan
    packs : Packs
        They hold the signals.
    entries, record : ndarray of int64, shape (n,)
        For each row, its entry in the packs and the row of its record in the plan.
    """

    plan: Plan
    packs: Packs
    entries: NDArray[np.int64]
    record: NDArray[np.int64]

    @classmethod
    def from_plan(cls, plan: Plan, packs: Packs, first: NDArray[np.int64]) -> tuple[StoreRows, pd.DataFrame]:
        """Return the rows of all readable records and a table of the others; `first` comes from `Packs.find`."""
        import pandas as pd

        rows = cls(plan, packs, *packs.windows(first))
        # An entry with window -1 stands for a record that cannot be read.
        parts = [part["window"] >= 0 for part in rows.read("window")]
        is_readable = np.concatenate([np.empty(0, bool), *parts])
        unreadable = rows.record[~is_readable]
        quarantine = {
            "ecg_id": plan.table["ecg_id"].to_numpy()[unreadable],
            "file": [plan.files[row].name for row in unreadable.tolist()],
            "reason": packs.read(rows.entries[~is_readable], "reason")["reason"],
        }
        return cls(plan, packs, rows.entries[is_readable], rows.record[is_readable]), pd.DataFrame(quarantine)

    def read(self, *columns: str) -> Iterator[dict[str, NDArray[Any]]]:
        """Read columns of the rows from the packs, in parts; columns as in `Packs.read`."""
        for start in range(0, len(self.entries), PART):
            yield self.packs.read(self.entries[start : start + PART], *columns)

    def tables(self) -> Iterator[pd.DataFrame]:
        """Yield the table of the store, in parts.

        Raises
        ------
        UserError
            If a record has too many windows to be numbered.
        """
        plan = self.plan
        for number, part in enumerate(self.read("window", *PACK_COLUMNS)):
            table = plan.table.iloc[self.record[number * PART : (number + 1) * PART]].reset_index(drop=True)
            window = part["window"].astype(np.int64)
            if window.max() >= MOST_WINDOWS:
                raise UserError(
                    f"{plan.name}: a record of {window.max() + 1} windows found, expected {MOST_WINDOWS} or fewer."
                )
            record_id = table["ecg_id"].to_numpy(np.int64)
            yield table.assign(
                ecg_id=record_id * MOST_WINDOWS + window if plan.long == "slide" else record_id,
                record_id=record_id,
                **{name: part[name] for name in PACK_COLUMNS},
            )

    def fingerprint(self) -> str:
        """Return the SHA-256 of the content of the store. It does not depend on how packs share the signals."""
        plan = self.plan
        digest = hashlib.sha256(json.dumps([CONTENT_FORMAT, plan.fs, list(plan.leads), len(self.entries)]).encode())
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

        # The schema is fixed before the first part is written: a part may have only missing values in a column.
        plan_schema = pa.Schema.from_pandas(self.plan.table, preserve_index=False)
        types = {field.name: field.type for field in plan_schema}
        types["record_id"] = pa.int64()
        for name in PACK_COLUMNS:
            types[name] = pa.from_numpy_dtype(np.dtype(COLUMNS[name]))
        schema = pa.schema(list(types.items()))
        with pq.ParquetWriter(file, schema) as writer:
            for table in self.tables():
                writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))
