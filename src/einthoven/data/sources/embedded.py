"""The embedded data: generated once in the layout of PTB-XL, then read like PTB-XL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.data import synthetic
from einthoven.data.sources.labels import TASKS, Labels
from einthoven.data.sources.ptbxl import GENERATED, PTBXL, RATES
from einthoven.data.store.packed_store import Store
from einthoven.data.store.packing import Progress
from einthoven.errors import UserError
from einthoven.files import BAD_ARRAY_HEADER
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd


MOST_RECORDS = 1_000_000
MOST_NOISE = 100  # with more noise, 16 bits leave nothing of the ECG


@dataclass(frozen=True)
class Synthetic:
    """Generated 12-lead ECGs.

    Parameters
    ----------
    records : int
        Number of records.
    seed : int
        Seed of the generator.
    noise : float
        Electrode noise; 1 is the noise of clinical recordings.
    fs : int
        100 or 500 Hz.
    cache : path
        Folder for the generated records and their packed store.
    leads : sequence of str
        Leads to keep, in this order.
    seconds : float or None
        Length of a record, at most 10 s; None: the generated length.
    version : int
        Version of the generator. It is an option so that runs and bundles record it. Only the current one exists.
    """

    records: int
    seed: int
    noise: float
    fs: int
    cache: str | Path
    leads: Sequence[str] = LEADS
    seconds: float | None = None
    version: int = synthetic.GENERATOR_VERSION

    label_sets = TASKS

    @cached_property
    def root(self) -> Path:
        """Folder of the generated records. Its name depends on the version of the generator and on each option."""
        settings = json.dumps([self.version, self.records, self.seed, self.noise, self.fs]).encode()
        digest = hashlib.sha256(settings).hexdigest()[:8]
        return Path(self.cache) / f"synthetic-v{self.version}-{self.records}-{digest}"

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the packed store (or one shard of it); generate the records on first use.

        Raises
        ------
        UserError
            If an option is out of its range.
        """
        if self.fs not in RATES:
            raise UserError(f"data.fs={self.fs}: expected 100 or 500 Hz.")
        if not 1 <= self.records <= MOST_RECORDS:
            raise UserError(f"data.records={self.records}: expected a number of records from 1 to {MOST_RECORDS:,}.")
        if not 0 <= self.noise <= MOST_NOISE:
            raise UserError(f"data.noise={self.noise}: expected a number from 0 to {MOST_NOISE}.")
        if self.seed < 0:
            raise UserError(f"data.seed={self.seed}: expected 0 or more.")
        if self.version != synthetic.GENERATOR_VERSION:
            raise UserError(
                f"data.version={self.version}: expected {synthetic.GENERATOR_VERSION}, the version of the generator in "
                "this einthoven."
            )
        rates = (100,) if self.fs == 100 else (100, self.fs)
        # An existing folder is used only if it contains this set as a whole.
        if self.root.is_dir() and any(self.root.iterdir()):
            synthetic.check_set(self.root, records=self.records, seed=self.seed, noise=self.noise, rates=rates)
        else:
            synthetic.write_synthetic(
                self.root,
                records=self.records,
                seed=self.seed,
                rates=rates,
                noise=self.noise,
                progress=progress,
            )
        return self._corpus.open(progress, shard, check=check)

    def state(self) -> Hashable | None:
        """Return what store and labels follow from, as `einthoven.data.sources.source_state.state_of` needs it."""
        return self._corpus.state()

    def labels(self, table: pd.DataFrame, task: str, **options: bool | float) -> Labels:
        """Return the labels of the records in the table of a store; options as in `ptbxl_labels`."""
        return self._corpus.labels(table, task, **options)

    def positives(self, table: pd.DataFrame, task: str, min_likelihood: float = 0.0) -> list[set[str]]:
        """Return the positive classes of each record in the table of a store."""
        return self._corpus.positives(table, task, min_likelihood)

    def annotates(self, table: pd.DataFrame, task: str) -> dict[str, frozenset[str]]:
        """Return the classes that the generator can produce."""
        return self._corpus.annotates(table, task)

    def class_of(self, task: str) -> dict[str, str]:
        """Return the class of each SCP-ECG statement, as in `einthoven.data.sources.labels.Labels`."""
        return self._corpus.class_of(task)

    def statement_texts(self) -> dict[str, str]:
        """Return the description of each statement."""
        return self._corpus.statement_texts()

    def masks(self, table: pd.DataFrame) -> NDArray[np.uint8]:
        """Return the exact extents of the waves of each row in the table of a store.

        Returns
        -------
        ndarray of uint8, shape (n, T)
            The bits of a sample: 1 for P, 2 for QRS, 4 for T. T is the length of a generated record.

        Raises
        ------
        UserError
            If the file of the masks cannot be read.
        """
        return self._read_truth("masks", table).astype(np.uint8)

    def dipoles(self, table: pd.DataFrame) -> NDArray[np.int16]:
        """Return the exact heart vectors of each row in the table of a store.

        Returns
        -------
        ndarray of int16, shape (n, 3, T)
            In µV; x to the left, y to the feet, z to the back. T is the length of a generated record.

        Raises
        ------
        UserError
            If the file of the heart vectors cannot be read, as of a set that an earlier release generated.
        """
        return self._read_truth("dipoles", table).astype(np.int16)

    def _read_truth(self, kind: str, table: pd.DataFrame) -> NDArray[np.generic]:
        """Read the rows of a file of exact masks or heart vectors."""
        file = self.root / f"{kind}{self.fs}.npy"
        try:
            values = np.load(file, mmap_mode="r", allow_pickle=False)
            return np.array(values[table["ecg_id"].to_numpy(np.int64) - 1])
        except (OSError, IndexError, *BAD_ARRAY_HEADER):
            raise UserError(
                f"{file}: cannot be read; expected the {kind} of the generated records. Delete {self.root}, and the "
                "records are generated again."
            ) from None

    @property
    def _corpus(self) -> PTBXL:
        return PTBXL(self.root, self.fs, self.cache, leads=self.leads, seconds=self.seconds, source=GENERATED)
