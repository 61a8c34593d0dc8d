"""What a store is to hold: which records, and how they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from einthoven.errors import UserError
from einthoven.functional.conform import LONG, SHORT
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd

MOST_SAMPLES = 2**31  # of a record
LARGEST_FS = 1_000_000
FORMAT = 3  # of the content of packs and stores: part of names and fingerprints
FILE_FORMAT = 4  # of their files; those of version 0.1 (3) have no checksums


class RecordFiles(Sequence[Path]):
    """Record files by name: a path is made when it is asked for, as a million of them take half a gigabyte.

    Parameters
    ----------
    root : Path
    names : Series of str
        Relative to `root`.
    """

    def __init__(self, root: Path, names: pd.Series[str]) -> None:
        self._root, self._series, self._names = root, names, names.array  # of the latter one is found sooner

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Path]:
        return (self._root / name for name in self._series)

    @overload
    def __getitem__(self, key: int) -> Path: ...
    @overload
    def __getitem__(self, key: slice) -> RecordFiles: ...
    def __getitem__(self, key: int | slice) -> Path | RecordFiles:
        if isinstance(key, slice):
            return RecordFiles(self._root, self._series.iloc[key])
        return self._root / str(self._names[key])


@dataclass(frozen=True)
class Plan:
    """A corpus as its source describes it, before any signal is read.

    Parameters
    ----------
    name : str
        Beginning of the store's name, for people who look into the cache.
    files : sequence of Path
        One record file for each row of `table`, as `read_record` takes it.
    table : DataFrame
        One row per record: int64 `ecg_id` (unique), `patient_id` and `strat_fold`, str `source`, and whatever the
        labels are made of.
    fs : float
        Sampling frequency of the store in Hz; records of another are resampled.
    tables : tuple of Path
        Files beside the records from which labels are made: their content is part of the store's identity.
    leads : sequence of str
        Canonical leads to keep, in this order.
    seconds : float or None
        Length of a stored record; None: as recorded, where all are equally long.
    long, short : str
        What becomes of a longer record (``crop``, ``centre`` or ``slide``) and of a shorter one (``pad`` or
        ``refuse``), as in `einthoven.functional.conform.cut`.
    stride : float or None
        Seconds between the windows of ``slide``; None: windows that touch.
    on_error : str
        ``fail``: the first record that cannot be read ends the build. ``quarantine``: such records are left out and
        listed with the reason.
    reading : mapping
        Further arguments of `read_record`: fs, units and leads of files that do not say, checksum.
    notes : tuple of str
        What the user should know of how the plan was made.

    Raises
    ------
    UserError
        If a setting is out of its range.
    """

    name: str
    files: Sequence[Path]
    table: pd.DataFrame
    fs: float
    tables: tuple[Path, ...] = ()
    leads: Sequence[str] = LEADS
    seconds: float | None = None
    long: str = "crop"
    short: str = "pad"
    stride: float | None = None
    on_error: str = "fail"
    reading: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        known, shown = set(LEADS), " ".join(map(str, self.leads))
        if not self.leads or not set(self.leads) <= known or len(set(self.leads)) < len(self.leads):
            raise UserError(f"data.leads=[{shown}]: expected some of {' '.join(LEADS)}, each once.")
        if not 0 < self.fs <= LARGEST_FS:
            raise UserError(f"data.fs={self.fs}: expected a sampling frequency in Hz, at most {LARGEST_FS:,}.")
        if self.seconds is not None and not 1 <= self.seconds * self.fs < MOST_SAMPLES:
            raise UserError(
                f"data.seconds={self.seconds}: expected the length of a record in seconds, from one sample to "
                f"{MOST_SAMPLES:,} at {self.fs:g} Hz, or null."
            )
        for option, value, values in (("long", self.long, LONG), ("short", self.short, SHORT)):
            if value not in values:
                raise UserError(f"data.{option}={value}: expected {' or '.join(values)}.")
        if self.stride is not None and self.long != "slide":
            raise UserError(
                f"data.stride={self.stride}: has no effect with data.long={self.long}; expected data.long=slide "
                "too, or null."
            )
        if self.on_error not in ("fail", "quarantine"):
            raise UserError(f"data.on_error={self.on_error}: expected fail or quarantine.")

    @property
    def pool(self) -> str:
        """Name of the folder of packs that fit this plan: another setting that changes signals gives another name."""
        settings = [FORMAT, self.fs, list(self.leads), self.seconds, self.long, self.short, self.stride]
        text = json.dumps([*settings, sorted(self.reading.items())])
        return f"{self.name}-{self.fs:g}hz-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def part(self, k: int, n: int) -> Plan:
        """The k-th of n parts of the records, k from 0; together the parts are the whole, in order.

        Raises
        ------
        UserError
            If there is no such part.
        """
        if not 0 <= k < n:
            raise UserError(f"data.shard={k} of data.shards={n}: expected a number from 0 to {n - 1}.")
        first, last = (len(self.files) * i // n for i in (k, k + 1))
        return replace(self, files=self.files[first:last], table=self.table.iloc[first:last])
