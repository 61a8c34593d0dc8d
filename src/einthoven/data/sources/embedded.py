"""The embedded data: generated once in PTB-XL's layout, then read like PTB-XL itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.data import synthetic
from einthoven.data.sources.labels import TASKS, Labels
from einthoven.data.sources.ptbxl import PTBXL, RATES
from einthoven.data.store.packed_store import Progress, Store
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd


MOST_RECORDS = 1_000_000
MOST_NOISE = 100  # beyond, nothing is left of the hearts in 16 bits


@dataclass(frozen=True)
class Synthetic:
    """Generated 12-lead ECGs.

    Parameters
    ----------
    records : int
        How many.
    seed : int
        Of the generator.
    noise : float
        Electrode noise, relative to what clinical recordings show.
    fs : int
        100 or 500 Hz.
    cache : path
        Folder for the generated records and their packed store.
    leads : sequence of str
        Leads to keep, in this order.
    seconds : float or None
        Length of a record, 10 s or less; None: as generated.
    """

    records: int
    seed: int
    noise: float
    fs: int
    cache: str | Path
    leads: Sequence[str] = LEADS
    seconds: float | None = None

    label_sets = TASKS

    @cached_property
    def root(self) -> Path:
        """Folder of the generated records; its name changes with every setting and with the generator itself."""
        code = b"".join(file.read_bytes() for file in sorted(Path(synthetic.__file__).parent.glob("*.py")))
        settings = json.dumps([self.records, self.seed, self.noise, self.fs]).encode()
        return Path(self.cache) / f"synthetic-{self.records}-{hashlib.sha256(settings + code).hexdigest()[:8]}"

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the packed store (or one shard of it), generating the records on first use.

        Raises
        ------
        UserError
            If a setting is out of its range.
        """
        if self.fs not in RATES:
            raise UserError(f"data.fs={self.fs}: expected 100 or 500 Hz.")
        if not 1 <= self.records <= MOST_RECORDS:
            raise UserError(f"data.records={self.records}: expected a number of records from 1 to {MOST_RECORDS:,}.")
        if not 0 <= self.noise <= MOST_NOISE:
            raise UserError(f"data.noise={self.noise}: expected a number from 0 to {MOST_NOISE}.")
        if self.seed < 0:
            raise UserError(f"data.seed={self.seed}: expected 0 or more.")
        if not (self.root / "ptbxl_database.csv").exists():
            rates = (100,) if self.fs == 100 else (100, self.fs)
            synthetic.write_synthetic(
                self.root,
                records=self.records,
                seed=self.seed,
                rates=rates,
                noise=self.noise,
                progress=progress,
            )
        return self._corpus.open(progress, shard, check=check)

    def labels(self, table: pd.DataFrame, task: str, **options: bool | float) -> Labels:
        """Labels of the records in a store's table; options as in `ptbxl_labels`."""
        return self._corpus.labels(table, task, **options)

    def positives(self, table: pd.DataFrame, task: str, min_likelihood: float = 0.0) -> list[set[str]]:
        """Classes that each record of a store's table is positive for."""
        return self._corpus.positives(table, task, min_likelihood)

    def annotates(self, table: pd.DataFrame, task: str) -> dict[str, frozenset[str]]:
        """Classes that the generator knows."""
        return self._corpus.annotates(table, task)

    def class_of(self, task: str) -> dict[str, str]:
        """Class of each SCP-ECG statement, as in `einthoven.data.sources.labels.Labels`."""
        return self._corpus.class_of(task)

    @property
    def _corpus(self) -> PTBXL:
        return PTBXL(self.root, self.fs, self.cache, leads=self.leads, seconds=self.seconds, source="synthetic")
