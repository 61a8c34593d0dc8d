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
corpus is opened. `build_store` packs and joins them, `write_store` writes the folder, and `open_store` opens and checks
it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data.store.digests import FIRST_SECONDS, Digests, add_digests, add_first_seconds, read_digests
from einthoven.data.store.signals import Signals
from einthoven.data.store.store_origin import Origin
from einthoven.files import BAD_ARRAY_HEADER

if TYPE_CHECKING:
    import pandas as pd

MILLIVOLT_PER_COUNT = 1e-3  # the store counts microvolts


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
