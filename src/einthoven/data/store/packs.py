"""Packs: the signals of stores. A pack is written once, never changes, and may serve any number of stores.

A pack is a folder with these files:

- ``signals.i16``: signals (rows, L, T), little-endian int16 µV.
- ``index.parquet``: one entry per window of the records that were read for the pack. An entry holds the state of the
  record's files, the digest of the signal, and the counts of its faults.
- ``pack.json``: the checksums of both files (`data.store.checksums`).

The packs in one folder (a pool) have the same settings. A signal that a pack of the pool already holds is not written
again: its entry has row -1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import PARTIAL
from einthoven.data.formats.inputs import file_state, main_file, other_files_state
from einthoven.data.store.checksums import SIGNALS, damaged, is_merged, read_pack_file
from einthoven.files import file_digest

COLUMNS = {
    "main": "S16",  # state of the main file of the record
    "others": "O",  # names of its other files, as `other_files` returns them
    "state": "S16",  # state of these other files
    "window": "i4",  # number of the window in its record; -1: the record cannot be read
    "digest": "S16",  # beginning of the SHA-256 of the signal
    "row": "i8",  # row in this pack; -1: another pack or entry holds the signal
    "samples": "i8",  # T
    "invalid_samples": "i8",
    "clipped_samples": "i8",
    "valid_samples": "i8",
    "start_s": "f8",
    "reason": "O",  # why the record cannot be read
}
NAME_COLUMNS = ("main", "state", "digest", "row")  # the name of a pack is a hash of these columns
INDEX = "index.parquet"
PART = 2**12  # records or entries that are in memory as Python objects at once
KEPT = 2**18  # entries of the indices of packs that stay in memory, about 36 MB


class Packs:
    """All packs of a pool: which records and signals are packed, and where.

    Parameters
    ----------
    pool : Path
        Folder of the packs; it need not exist.
    leads : int
        Leads of a signal.

    Attributes
    ----------
    folders : list of Path
        The packs that hold signals.
    sizes, samples : list of int
        Number of rows and signal length T of each of these packs.
    entries : int
        Number of entries in the indices of all packs. An entry is known by its number, counted over all packs. Only
        the columns that are searched are in memory; `read` reads the others from the disk.

    Raises
    ------
    UserError
        If a pack is damaged.
    """

    def __init__(self, pool: Path, leads: int) -> None:
        self.folders: list[Path] = []
        self.sizes: list[int] = []
        self.samples: list[int] = []
        self._leads = leads
        self._indices: dict[int, dict[str, NDArray[Any]]] = {}
        self._kept = 0
        self._packs: list[Path] = []
        if pool.is_dir():
            folders = [folder for folder in sorted(pool.glob("*/")) if not folder.name.startswith(PARTIAL)]
            self._packs = [folder for folder in folders if not is_merged(folder)]
        self._first_entry = [0]  # of each pack, counted over all packs
        self._first_row: list[int] = []

        mains = [np.empty(0, "S16")]
        digests = [np.empty(0, "S16")]
        places = [np.empty(0, np.int64)]
        record_starts = [np.empty(0, np.int64)]
        for number, folder in enumerate(self._packs):
            index = self._index(number)
            rows = index["row"]
            first_row = sum(self.sizes)
            has_signal = np.flatnonzero(rows >= 0)
            mains.append(index["main"])
            digests.append(index["digest"][has_signal])
            places.append(rows[has_signal] + first_row)
            # The first entry of a record has window 0, or -1 if the record cannot be read.
            record_starts.append(np.flatnonzero(index["window"] <= 0) + self._first_entry[-1])
            self._first_entry.append(self._first_entry[-1] + len(rows))
            self._first_row.append(first_row)
            if len(has_signal):
                self.folders.append(folder)
                self.sizes.append(int(rows.max()) + 1)
                self.samples.append(int(index["samples"][rows.argmax()]))
        self.entries = self._first_entry[-1]
        self._record_starts = np.append(np.concatenate(record_starts), self.entries)

        # Sort the states of main files and the digests once, so that they can be searched.
        self._mains = np.concatenate(mains)
        self._entry_of_main = np.argsort(self._mains, kind="stable")
        self._mains = self._mains[self._entry_of_main]
        self._digests = np.concatenate(digests)
        order = np.argsort(self._digests, kind="stable")
        self._digests = self._digests[order]
        self._digest_place = np.concatenate(places)[order]

    def read(self, entries: NDArray[np.int64], *columns: str) -> dict[str, NDArray[Any]]:
        """Read columns of some entries from the disk.

        Parameters
        ----------
        entries : ndarray of int64
        *columns : str
            Names in `COLUMNS`, or ``place``: the row of the signal, counted over all packs; -1 if no pack holds it.
        """
        names = [name for name in columns if name != "place"]
        if "place" in columns:
            names = ["digest", "row", *names]
        values_of: dict[str, NDArray[Any]] = {name: np.empty(len(entries), COLUMNS[name]) for name in names}
        pack = np.searchsorted(self._first_entry, entries, "right") - 1
        first_row = np.zeros(len(entries), np.int64)
        for number in np.unique(pack).tolist():
            selected = np.flatnonzero(pack == number)
            first_row[selected] = self._first_row[number]
            index = self._index(number)
            for name, values in values_of.items():
                values[selected] = index[name][entries[selected] - self._first_entry[number]]

        # An entry without a row of its own has its signal elsewhere: find it by its digest.
        if "place" in columns:
            row = values_of["row"]
            place = np.where(row >= 0, row + first_row, -1)
            elsewhere = np.flatnonzero(row < 0)
            place[elsewhere] = self.locate(values_of["digest"][elsewhere])
            values_of["place"] = place
        return values_of

    def _index(self, number: int) -> dict[str, NDArray[Any]]:
        """Return the index of one pack. The few indices that were used last stay in memory."""
        index = self._indices.pop(number, None)
        if index is None:
            index = _read(self._packs[number], self._leads)
            while self._indices and self._kept + len(index["row"]) > KEPT:
                self._kept -= len(self._indices.pop(next(iter(self._indices)))["row"])
            self._kept += len(index["row"])
        self._indices[number] = index
        return index

    def locate(self, digests: NDArray[np.generic]) -> NDArray[np.int64]:
        """Return the place of each signal, by its digest; -1 if no pack holds it."""
        if not len(self._digests):
            return np.full(len(digests), -1)
        position = np.minimum(np.searchsorted(self._digests, digests), len(self._digests) - 1)
        return np.where(self._digests[position] == digests, self._digest_place[position], -1)

    def holds(self, digest: bytes) -> bool:
        """Whether a pack holds the signal of this digest."""
        return len(self._digests) > 0 and bool(self.locate(np.array([digest], "S16"))[0] >= 0)

    def find(self, records: Sequence[Path], accepts_failed: bool) -> NDArray[np.int64]:
        """Return the first entry of each record whose files have not changed since they were packed; -1 for the others.

        Parameters
        ----------
        records : sequence of Path
        accepts_failed : bool
            Whether a record that could not be read counts, too.
        """
        if not len(self._mains):
            return np.full(len(records), -1)
        entries = np.empty(len(records), np.int64)
        for start in range(0, len(records), PART):
            entries[start : start + PART] = self._find(records[start : start + PART], accepts_failed)
        return entries

    def _find(self, records: Sequence[Path], accepts_failed: bool) -> NDArray[np.int64]:
        # Candidates are all entries with the same state of the main file. One record may have several.
        mains = [main_file(record) for record in records]
        states = np.array([file_state(main) for main in mains], "S16")
        first = np.searchsorted(self._mains, states, "left")
        count = np.searchsorted(self._mains, states, "right") - first
        record = np.repeat(np.arange(len(mains)), count)
        candidates = self._entry_of_main[_ranges(first, count)]

        # Accept the first candidate whose signal exists and whose other files have the same state, too.
        columns = self.read(candidates, "window", "state", "others", "place")
        is_failed = columns["window"] < 0
        is_usable = np.where(columns["window"] == 0, columns["place"] >= 0, accepts_failed & is_failed)
        entries = np.full(len(mains), -1)
        for k in np.flatnonzero(is_usable).tolist():
            main = mains[record[k]]
            if entries[record[k]] < 0 and columns["state"][k] == other_files_state(main, columns["others"][k]):
                entries[record[k]] = candidates[k]
        return entries

    def windows(self, first: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the entries of all windows of some records, and the record of each; `first` are the first entries."""
        number = np.searchsorted(self._record_starts, first)
        count = self._record_starts[number + 1] - self._record_starts[number]
        return _ranges(first, count), np.repeat(np.arange(len(first)), count)


def _ranges(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `count` consecutive numbers from each of `first`, one range after the other."""
    return np.repeat(first - (np.cumsum(count) - count), count) + np.arange(count.sum())


class IndexWriter:
    """Writer of the index of a new pack. It keeps few entries in memory.

    Parameters
    ----------
    folder : Path
        Folder of the pack.

    Attributes
    ----------
    entries : int
        Number of entries so far.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"S16": "binary", "O": "string", "i4": "int32", "i8": "int64", "f8": "float64"}
        self._schema = pa.schema([(name, types[dtype]) for name, dtype in COLUMNS.items()])
        self._file = folder / INDEX
        self._writer = pq.ParquetWriter(self._file, self._schema)
        self._part: list[Mapping[str, Any]] = []
        self._name_hash = hashlib.sha256()
        self.entries = 0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append an entry: a value for each of `COLUMNS`."""
        self._part.append(entry)
        self._name_hash.update(_bytes_for_name(*(entry[name] for name in NAME_COLUMNS)))
        self.entries += 1
        if len(self._part) == PART:
            self._write()

    def close(self) -> tuple[str, str]:
        """Finish the file; return the name of the pack and the SHA-256 of the file.

        The name is a function of the entries of the pack and of which signals it holds.
        """
        self._write()
        self._writer.close()
        return _pack_name(self._name_hash), file_digest(self._file)

    def _write(self) -> None:
        import pyarrow as pa

        columns = {name: [entry[name] for entry in self._part] for name in COLUMNS}
        self._writer.write_table(pa.table(columns, self._schema))
        self._part = []


def _read(folder: Path, leads: int) -> dict[str, NDArray[Any]]:
    """Read the index of a pack in parts: as Python objects the whole would need several times its memory."""
    import pyarrow.parquet as pq

    parts: dict[str, list[NDArray[Any]]] = {name: [np.empty(0, dtype)] for name, dtype in COLUMNS.items()}
    texts: dict[str, str] = {}
    try:
        if file_digest(folder / INDEX) != read_pack_file(folder)["index"]:
            raise ValueError(f"{INDEX} is not what was written")
        with pq.ParquetFile(folder / INDEX) as file:
            for number in range(file.num_row_groups):  # of `PART` entries
                batch = file.read_row_group(number, use_threads=False)
                for name, dtype in COLUMNS.items():
                    values = batch[name].to_pylist() if dtype in ("O", "S16") else batch[name].to_numpy()
                    # Many entries have the same text. Keep one object per text.
                    if dtype == "O":
                        values = [texts.setdefault(value, value) for value in values]
                    parts[name].append(np.array(values, dtype))
        # `pop` frees the parts of a column as soon as they are joined.
        index = {name: np.concatenate(parts.pop(name)) for name in COLUMNS}

        # The file of signals must have exactly the rows that the index counts.
        rows = index["row"]
        if (rows >= 0).any():
            samples = index["samples"][rows >= 0]
            expected = (int(rows.max()) + 1) * leads * int(samples.max()) * 2
            try:
                actual = (folder / SIGNALS).stat().st_size
            except FileNotFoundError:
                # Another process has merged this pack, which deletes the file of its signals.
                if not is_merged(folder):
                    raise
                actual = expected
            if actual != expected:
                raise ValueError(f"{SIGNALS} has {actual} bytes, expected {expected}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        # The errors of pyarrow are subclasses of these.
        raise damaged(folder, " ".join(str(error).split())) from None
    return index


def _bytes_for_name(main: bytes, state_of_files: bytes, digest: bytes, row: int) -> bytes:
    """Return what one entry adds to the hash of the name: a pack that lacks a signal has another name."""
    return main + state_of_files + digest + (b"elsewhere" if row < 0 else b"")


def _pack_name(name_hash: hashlib._Hash) -> str:
    return name_hash.hexdigest()[:16]
