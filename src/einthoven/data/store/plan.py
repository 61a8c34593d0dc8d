"""The plan of a store: which records it holds, and how they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, overload

from einthoven.data.store.store_origin import Origin
from einthoven.errors import UserError
from einthoven.functional.conform import LONG_RULES, SHORT_RULES
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

MOST_SAMPLES = 2**31  # samples of one record
LARGEST_FS = 1_000_000
NAMES_AT_ONCE = 1024  # of record files, as Python strings
FORMAT = 5  # number of the format of packs and stores; those of formats 3 and 4 were resampled with an older filter
CHECKSUM_FORMAT = 4  # the first format with checksums
CONTENT_FORMAT = 3  # number in the names of the packs of formats 3 and 4, and in all fingerprints


class RecordFiles(Sequence[Path]):
    """Record files by name. A `Path` is created on access, because a million of them need half a gigabyte.

    Parameters
    ----------
    root : Path
    names : Series of str
        Relative to `root`.
    """

    def __init__(self, root: Path, names: pd.Series[str]) -> None:
        self._root = root
        self._series = names
        # The names around the one that was read last, as Python strings: files are mostly read one after the other.
        self._nearby: list[str] = []
        self._first_nearby = 0

    def __len__(self) -> int:
        return len(self._series)

    def __iter__(self) -> Iterator[Path]:
        return (self._root / name for name in self._series)

    @overload
    def __getitem__(self, key: int) -> Path: ...
    @overload
    def __getitem__(self, key: slice) -> RecordFiles: ...
    def __getitem__(self, key: int | slice) -> Path | RecordFiles:
        if isinstance(key, slice):
            return RecordFiles(self._root, self._series.iloc[key])
        position = key + len(self) if key < 0 else key
        offset = position - self._first_nearby
        if not 0 <= offset < len(self._nearby):
            if not 0 <= position < len(self):
                raise IndexError(f"file {key} of {len(self)}")
            self._first_nearby = position - position % NAMES_AT_ONCE
            self._nearby = self._series.iloc[self._first_nearby : self._first_nearby + NAMES_AT_ONCE].tolist()
            offset = position - self._first_nearby
        return self._root / str(self._nearby[offset])


@dataclass(frozen=True)
class Plan:
    """The description of a corpus by its source, before any signal is read.

    Parameters
    ----------
    name : str
        Beginning of the name of the store, for people who look into the cache.
    files : sequence of Path
        One record file for each row of `table`, as `read_record` takes it.
    table : DataFrame
        One row per record: int64 `ecg_id` (unique), `patient_id` and `strat_fold`, str `source`, and the columns
        that the labels are made from.
    fs : float
        Sampling frequency of the store in Hz; records with another sampling frequency are resampled.
    tables : tuple of Path
        Files of labels next to the records. Their content is part of the fingerprint of the store.
    leads : sequence of str
        Canonical leads to keep, in this order.
    seconds : float or None
        Length of a stored record; None: the recorded length, which must then be the same for all records.
    long, short : str
        How a longer record is cut (``crop``, ``centre`` or ``slide``) and what happens to a shorter one (``pad`` or
        ``refuse``), as in `einthoven.functional.conform.cut_record`.
    stride : float or None
        Seconds between the starts of the windows of ``slide``; None: each window begins where the last one ends.
    on_error : str
        ``fail``: a record that cannot be read is an error. ``quarantine``: such records are left out and listed with
        the reason.
    absent : DataFrame or None
        `ecg_id` and `file` (a name) of the records that the tables list, but whose file does not exist. They are
        left out, and listed as well.
    reading : mapping
        Further arguments of `read_record`: fs, units and leads of files that do not contain them, checksum.
    option_style : str or None
        How the user states fs, units and leads of the files, as in `read_record`; None if the source has no options
        for it.
    remedy : str
        What the user can do about a record that cannot be read.
    notes : tuple of str
        Notes for the user about how the plan was made.
    origin : Origin or None
        The source. With it, the store can be opened without the source (`einthoven.data.sources.stored`).

    Raises
    ------
    UserError
        If an option is out of its range.
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
    absent: pd.DataFrame | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    option_style: str | None = None
    remedy: str = "data.on_error=quarantine leaves such records out and lists them"
    notes: tuple[str, ...] = ()
    origin: Origin | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        unique_leads = set(self.leads)
        if not self.leads or not unique_leads <= set(LEADS) or len(unique_leads) < len(self.leads):
            names = " ".join(map(str, self.leads))
            raise UserError(f"data.leads=[{names}]: expected some of {' '.join(LEADS)}, each once.")
        if not 0 < self.fs <= LARGEST_FS:
            raise UserError(f"data.fs={self.fs}: expected a sampling frequency in Hz, at most {LARGEST_FS:,}.")
        if self.seconds is not None and not 1 <= self.seconds * self.fs < MOST_SAMPLES:
            raise UserError(
                f"data.seconds={self.seconds}: expected the length of a record in seconds, from one sample to "
                f"{MOST_SAMPLES:,} at {self.fs:g} Hz, or null."
            )
        for option, value, values in (("long", self.long, LONG_RULES), ("short", self.short, SHORT_RULES)):
            if value not in values:
                raise UserError(f"data.{option}={value}: expected {' or '.join(values)}.")
        if self.stride is not None and self.long != "slide":
            raise UserError(
                f"data.stride={self.stride}: has no effect with data.long={self.long}; expected data.long=slide "
                "too, or null."
            )
        if self.on_error not in ("fail", "quarantine"):
            raise UserError(f"data.on_error={self.on_error}: expected fail or quarantine.")

    @classmethod
    def from_source(
        cls, source: Any, files: Sequence[Path], table: pd.DataFrame, *, label_files: Sequence[Path] = (), **others: Any
    ) -> Plan:
        """Return the plan of a source that is a dataclass: its options that are options of `Plan` are taken over.

        Parameters
        ----------
        source : dataclass
            With `root`, `fs`, `leads`, `seconds` and `on_error`; it may have `long`, `short` and `stride`, too.
        files, table
            As in `Plan`.
        label_files : sequence of Path
            Files that labels are made from, beside the table. The store gets copies of them.
        **others
            `tables`, `absent`, `reading`, `option_style` and `notes` of `Plan`.
        """
        names = ("fs", "leads", "seconds", "long", "short", "stride", "on_error")
        options = {name: getattr(source, name) for name in names if hasattr(source, name)}
        origin = Origin.from_source(source, tuple(label_files))
        return cls(name=Path(source.root).resolve().name, files=files, table=table, origin=origin, **options, **others)

    @property
    def pool(self) -> str:
        """Name of the folder of packs that fit this plan. It depends on each option that changes the signals."""
        return self._pool_name(FORMAT)

    @property
    def earlier_pool(self) -> str:
        """Name of the folder of packs that an earlier version made of this plan."""
        return self._pool_name(CONTENT_FORMAT)

    def _pool_name(self, number: int) -> str:
        settings = [number, self.fs, list(self.leads), self.seconds, self.long, self.short, self.stride]
        text = json.dumps([*settings, sorted(self.reading.items())])
        return f"{self.name}-{self.fs:g}hz-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def part(self, k: int, n: int) -> Plan:
        """Return the k-th of n parts of the records, k from 0. Together, the parts are all records in order.

        Raises
        ------
        UserError
            If there is no such part.
        """
        if not 0 <= k < n:
            raise UserError(f"data.shard={k} of data.shards={n}: expected a number from 0 to {n - 1}.")
        first = len(self.files) * k // n
        last = len(self.files) * (k + 1) // n
        return replace(self, files=self.files[first:last], table=self.table.iloc[first:last], absent=None)


def absent_records(ecg_ids: NDArray[Any], names: pd.Series[str], is_present: NDArray[np.bool_]) -> pd.DataFrame:
    """Return `Plan.absent`: the records of a table whose file does not exist, by the last part of their path."""
    import numpy as np
    import pandas as pd

    files = [PurePath(str(name)).name for name in names[~is_present]]
    return pd.DataFrame({"ecg_id": ecg_ids[~is_present], "file": files}, index=np.flatnonzero(~is_present))
