"""Packs: the signals of stores. A pack is written once, is never changed, and may serve any number of stores.

A pack is a folder: ``signals.i16`` (rows, L, T), little-endian int16 µV; ``index.parquet``, with one entry for each
window of the records that were read for it: the files it came from and their state, the SHA-256 of its signal, and
what was found in it. The packs of one folder (a pool) have the same settings. A signal that some pack of the pool
holds already is not written again: its entry has row -1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.inputs import main_file, state, state_of_others
from einthoven.errors import UserError

COLUMNS = {
    "main": "S16",  # state of the record's main file
    "others": "O",  # its further files, as `other_files` has it
    "state": "S16",  # and their state
    "window": "i4",  # number of the window in its record; -1: the record cannot be read
    "digest": "S16",  # beginning of the SHA-256 of the signal
    "row": "i8",  # in this pack; -1: not here
    "samples": "i8",  # T
    "invalid_samples": "i8",
    "clipped_samples": "i8",
    "valid_samples": "i8",
    "start_s": "f8",
    "reason": "O",  # why the record cannot be read
}
PART = 2**12  # records or entries that are in memory as Python objects at a time


class Packs:
    """All packs of a pool: what is packed already, and where.

    Parameters
    ----------
    pool : Path
        Folder of the packs; need not exist.
    leads : int
        Leads of a signal.

    Attributes
    ----------
    folders : list of Path
        The packs that hold signals.
    sizes, samples : list of int
        Rows of each, and their length T.
    index : dict of str to ndarray
        The entries of all packs, one after the other; see `COLUMNS`.
    place : ndarray of int64
        Where the signal of each entry stands, counted over the rows of all packs; -1: nowhere.

    Raises
    ------
    UserError
        If a pack is damaged.
    """

    def __init__(self, pool: Path, leads: int) -> None:
        self.folders: list[Path] = []
        self.sizes: list[int] = []
        self.samples: list[int] = []
        parts: dict[str, list[NDArray[Any]]] = {name: [np.empty(0, dtype)] for name, dtype in COLUMNS.items()}
        places: list[NDArray[np.int64]] = []
        for folder in sorted(pool.glob("*/")) if pool.is_dir() else []:
            if folder.suffix == ".partial":
                continue
            part = _read(folder, leads)
            start, rows = sum(self.sizes), part["row"]
            for name, values in part.items():
                parts[name].append(values)
            places.append(np.where(rows >= 0, rows + start, -1))
            if (rows >= 0).any():
                self.folders.append(folder)
                self.sizes.append(int(rows.max()) + 1)
                self.samples.append(int(part["samples"][rows.argmax()]))
        self.index = {name: np.concatenate(parts.pop(name)) for name in COLUMNS}
        own = np.concatenate(places) if places else np.empty(0, np.int64)
        here = np.flatnonzero(own >= 0)
        here = here[np.argsort(self.index["digest"][here], kind="stable")]
        self._digests, self._digest_place = self.index["digest"][here], own[here]
        self.place = self.locate(self.index["digest"])
        self._by_main = np.argsort(self.index["main"], kind="stable")
        self._mains = self.index["main"][self._by_main]

    def locate(self, digests: NDArray[np.generic]) -> NDArray[np.int64]:
        """Place of each signal, by its digest; -1 where no pack holds it."""
        if not len(self._digests):
            return np.full(len(digests), -1)
        at = np.minimum(np.searchsorted(self._digests, digests), len(self._digests) - 1)
        return np.where(self._digests[at] == digests, self._digest_place[at], -1)

    def hold(self, digest: bytes) -> bool:
        """Whether some pack holds the signal of this digest."""
        return len(self._digests) > 0 and bool(self.locate(np.array([digest], "S16"))[0] >= 0)

    def find(self, records: Sequence[Path], failed: bool) -> NDArray[np.int64]:
        """First entry of each record whose files are as they were when it was packed; -1 for the others.

        Parameters
        ----------
        records : sequence of Path
        failed : bool
            Whether a record that could not be read counts as found.
        """
        if not len(self._mains):
            return np.full(len(records), -1)
        parts = [self._find(records[start : start + PART], failed) for start in range(0, len(records), PART)]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _find(self, records: Sequence[Path], failed: bool) -> NDArray[np.int64]:
        mains = [main_file(record) for record in records]
        states = np.array([state(main) for main in mains], "S16")
        first = np.searchsorted(self._mains, states, "left")
        last = np.searchsorted(self._mains, states, "right")
        found = np.full(len(mains), -1)
        for record in np.flatnonzero(last > first).tolist():
            for entry in self._by_main[first[record] : last[record]].tolist():
                packed = self.place[entry] >= 0 if self.index["window"][entry] == 0 else failed
                if (
                    packed
                    and self.index["window"][entry] <= 0
                    and self.index["state"][entry] == state_of_others(mains[record], self.index["others"][entry])
                ):
                    found[record] = entry
                    break
        return found

    def windows(self, first: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Entries of all windows of the records whose first entries are given, and the record of each."""
        starts = np.append(np.flatnonzero(self.index["window"] <= 0), len(self.index["window"]))
        number = np.searchsorted(starts, first)
        count = starts[number + 1] - starts[number]
        record = np.repeat(np.arange(len(first)), count)
        within = np.arange(len(record)) - np.repeat(np.cumsum(count) - count, count)
        return first[record] + within, record


class IndexWriter:
    """The index of a pack that is being written; few of its entries are in memory.

    Parameters
    ----------
    folder : Path
        Of the pack.

    Attributes
    ----------
    entries : int
        How many there are so far.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"S16": "binary", "O": "string", "i4": "int32", "i8": "int64", "f8": "float64"}
        self._schema = pa.schema([(name, types[dtype]) for name, dtype in COLUMNS.items()])
        self._writer = pq.ParquetWriter(folder / "index.parquet", self._schema)
        self._part: list[Mapping[str, Any]] = []
        self._identity = hashlib.sha256()
        self.entries = 0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append an entry: a value for each of `COLUMNS`."""
        self._part.append(entry)
        self._identity.update(entry["main"] + entry["state"] + entry["digest"])
        self.entries += 1
        if len(self._part) == PART:
            self._write()

    def close(self) -> str:
        """Finish the file; returns the name of the pack, which is a function of its entries."""
        self._write()
        self._writer.close()
        return self._identity.hexdigest()[:16]

    def _write(self) -> None:
        import pyarrow as pa

        columns = {name: [entry[name] for entry in self._part] for name in COLUMNS}
        self._writer.write_table(pa.table(columns, self._schema))
        self._part = []


def _read(folder: Path, leads: int) -> dict[str, NDArray[Any]]:
    """The index of a pack, read part by part: as Python objects it would take several times its memory."""
    import pyarrow.parquet as pq

    parts: dict[str, list[NDArray[Any]]] = {name: [np.empty(0, dtype)] for name, dtype in COLUMNS.items()}
    texts: dict[str, str] = {}
    try:
        with pq.ParquetFile(folder / "index.parquet") as file:
            for number in range(file.num_row_groups):  # of `PART` entries
                batch = file.read_row_group(number, use_threads=False)
                for name, dtype in COLUMNS.items():
                    values = batch[name].to_pylist() if dtype in ("O", "S16") else batch[name].to_numpy()
                    if dtype == "O":  # few different ones, in many entries
                        values = [texts.setdefault(value, value) for value in values]
                    parts[name].append(np.array(values, dtype))
        part = {name: np.concatenate(parts.pop(name)) for name in COLUMNS}
        rows = part["row"]
        if (rows >= 0).any():
            samples = part["samples"][rows >= 0]
            expected = (int(rows.max()) + 1) * leads * int(samples.max()) * 2
            found = (folder / "signals.i16").stat().st_size
            if found != expected:
                raise ValueError(f"signals.i16 has {found} bytes, expected {expected}")
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are among them
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: a damaged pack ({reason}); delete that folder, and it is built anew.") from None
    return part
