"""Packs: the signals of stores. A pack is written once, is never changed, and may serve any number of stores.

A pack is a folder: ``signals.i16`` (rows, L, T), little-endian int16 µV; ``index.parquet``, with one entry for each
window of the records that were read for it: the files it came from and their state, the SHA-256 of its signal, and
what was found in it; ``pack.json``, with the checksums of both (`data.store.checksums`). The packs of one folder (a
pool) have the same settings. A signal that some pack of the pool holds already is not written again: its entry has
row -1.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import write_text
from einthoven.data.formats.inputs import file_state, main_file, other_files_state, short_digest
from einthoven.data.store.checksums import NOTES, SIGNALS, BlockSums, damaged, pack_notes, read_notes
from einthoven.files import file_digest

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
IDENTITY = ("main", "state", "digest", "row")  # columns that give a pack its name
INDEX = "index.parquet"
PART = 2**12  # records or entries that are in memory as Python objects at a time
KEPT = 4  # indices of packs in memory, of some 9 MB each


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
    entries : int
        How many the indices of all packs have, one after the other. They are known by their number; what they hold
        stays on the disk (`read`), apart from what is searched for.

    Raises
    ------
    UserError
        If a pack is damaged.
    """

    def __init__(self, pool: Path, leads: int) -> None:
        self.folders: list[Path] = []
        self.sizes: list[int] = []
        self.samples: list[int] = []
        self._leads, self._kept = leads, dict[int, dict[str, NDArray[Any]]]()
        self._packs = sorted(pool.glob("*/")) if pool.is_dir() else []
        self._packs = [folder for folder in self._packs if folder.suffix != ".partial"]
        self._first, self._row = [0], list[int]()  # of each pack: its first entry, and its first row among all
        parts: list[tuple[NDArray[Any], ...]] = [(np.empty(0, "S16"), np.empty(0, "S16"), *[np.empty(0, np.int64)] * 2)]
        for number, folder in enumerate(self._packs):
            part = self._index(number)
            rows, start = part["row"], sum(self.sizes)
            here, starts = np.flatnonzero(rows >= 0), np.flatnonzero(part["window"] <= 0)
            parts.append((part["main"], part["digest"][here], rows[here] + start, starts + self._first[-1]))
            self._first.append(self._first[-1] + len(rows))
            self._row.append(start)
            if len(here):
                self.folders.append(folder)
                self.sizes.append(int(rows.max()) + 1)
                self.samples.append(int(part["samples"][rows.argmax()]))
        self.entries = self._first[-1]
        self._mains, self._digests, self._digest_place, starts = map(np.concatenate, zip(*parts, strict=True))
        del parts
        self._starts = np.append(starts, self.entries)  # first entries of records
        self._by_main = np.argsort(self._mains, kind="stable")
        self._mains = self._mains[self._by_main]
        order = np.argsort(self._digests, kind="stable")
        self._digests, self._digest_place = self._digests[order], self._digest_place[order]

    def read(self, entries: NDArray[np.int64], *columns: str) -> dict[str, NDArray[Any]]:
        """Columns of some entries, from the disk; ``place`` is where the signal stands, counted over all rows.

        Parameters
        ----------
        entries : ndarray of int64
        *columns : str
            Of `COLUMNS`, or ``place``, which is -1 where no pack holds the signal.
        """
        wanted = ["digest", "row"] if "place" in columns else []
        names = dict.fromkeys([*wanted, *(name for name in columns if name != "place")])
        found: dict[str, NDArray[Any]] = {name: np.empty(len(entries), COLUMNS[name]) for name in names}
        pack = np.searchsorted(self._first, entries, "right") - 1
        start = np.zeros(len(entries), np.int64)
        for number in np.unique(pack).tolist():
            here = np.flatnonzero(pack == number)
            start[here] = self._row[number]
            part = self._index(number)
            for name, values in found.items():
                values[here] = part[name][entries[here] - self._first[number]]
        if "place" in columns:
            row = found["row"]
            found["place"] = np.where(row >= 0, row + start, -1)
            elsewhere = np.flatnonzero(row < 0)
            found["place"][elsewhere] = self.locate(found["digest"][elsewhere])
        return found

    def _index(self, number: int) -> dict[str, NDArray[Any]]:
        """The index of one pack; the last few that were asked for are in memory."""
        index = self._kept.pop(number, None)
        if index is None:
            index = _read(self._packs[number], self._leads)
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
        self._kept[number] = index
        return index

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
        found = np.empty(len(records), np.int64)
        for start in range(0, len(records), PART):
            found[start : start + PART] = self._find(records[start : start + PART], failed)
        return found

    def _find(self, records: Sequence[Path], failed: bool) -> NDArray[np.int64]:
        mains = [main_file(record) for record in records]
        states = np.array([file_state(main) for main in mains], "S16")
        first = np.searchsorted(self._mains, states, "left")
        count = np.searchsorted(self._mains, states, "right") - first
        record = np.repeat(np.arange(len(mains)), count)
        entries = self._by_main[_ranges(first, count)]
        part = self.read(entries, "window", "state", "others", "place")
        usable = np.where(part["window"] == 0, part["place"] >= 0, failed & (part["window"] < 0))
        found = np.full(len(mains), -1)
        for here in np.flatnonzero(usable).tolist():
            main, others = mains[record[here]], part["others"][here]
            if found[record[here]] < 0 and part["state"][here] == other_files_state(main, others):
                found[record[here]] = entries[here]
        return found

    def windows(self, first: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Entries of all windows of the records whose first entries are given, and the record of each."""
        number = np.searchsorted(self._starts, first)
        count = self._starts[number + 1] - self._starts[number]
        return _ranges(first, count), np.repeat(np.arange(len(first)), count)


def _ranges(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each of `first` on, `count` of them, one range after the other."""
    return np.repeat(first - (np.cumsum(count) - count), count) + np.arange(count.sum())


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
        self._file = folder / INDEX
        self._writer = pq.ParquetWriter(self._file, self._schema)
        self._part: list[Mapping[str, Any]] = []
        self._identity = hashlib.sha256()
        self.entries = 0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append an entry: a value for each of `COLUMNS`."""
        self._part.append(entry)
        self._identity.update(_identity_of(*(entry[name] for name in IDENTITY)))
        self.entries += 1
        if len(self._part) == PART:
            self._write()

    def close(self) -> tuple[str, str]:
        """Finish the file; returns the name of the pack and the SHA-256 of the file.

        The name is a function of the entries of the pack and of which signals it holds.
        """
        self._write()
        self._writer.close()
        return _pack_name(self._identity), file_digest(self._file)

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
        if (folder / NOTES).exists() and file_digest(folder / INDEX) != read_notes(folder)["index"]:
            raise ValueError(f"{INDEX} is not what was written")
        with pq.ParquetFile(folder / INDEX) as file:
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
            found = (folder / SIGNALS).stat().st_size
            if found != expected:
                raise ValueError(f"{SIGNALS} has {found} bytes, expected {expected}")
        if not (folder / NOTES).exists():
            _add_checksums(folder, part)
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are among them
        raise damaged(folder, " ".join(str(error).split())) from None
    return part


def _add_checksums(folder: Path, index: Mapping[str, NDArray[Any]]) -> None:
    """Check a pack of version 0.1 by its name and by the digests of its signals, and give it the checksums it lacks.

    Raises
    ------
    ValueError
        If it is not what was written.
    """
    identity = hashlib.sha256()
    for main, state_of_files, digest, row in zip(*(index[name].tolist() for name in IDENTITY), strict=True):
        identity.update(_identity_of(main, state_of_files, digest, row))
    if _pack_name(identity) != folder.name:
        raise ValueError(f"{INDEX} is not what was written")

    here = np.flatnonzero(index["row"] >= 0)
    here = here[np.argsort(index["row"][here])]
    sums = BlockSums()
    with (folder / SIGNALS).open("rb") as signals:
        size = (folder / SIGNALS).stat().st_size // max(1, len(here))
        for row, digest in enumerate(index["digest"][here].tolist()):
            signal = signals.read(size)
            if short_digest(signal) != digest:
                raise ValueError(f"row {row} of {SIGNALS} is not what was written")
            sums.add(signal)
    with contextlib.suppress(OSError):  # a cache that cannot be written is checked in this way each time
        write_text(folder / NOTES, pack_notes(sums, file_digest(folder / INDEX)))


def _identity_of(main: bytes, state_of_files: bytes, digest: bytes, row: int) -> bytes:
    """What one entry adds to the name of a pack: with its signal here it is another pack than without it."""
    return main + state_of_files + digest + (b"elsewhere" if row < 0 else b"")


def _pack_name(identity: hashlib._Hash) -> str:
    return identity.hexdigest()[:16]
