"""Several sources as one: a shared label space, patients that stay apart, and no recording twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from einthoven.data.sources.folder import Folder
from einthoven.data.sources.labels import Labels, label_matrix, shared_classes
from einthoven.data.store.packed_store import Progress, Store
from einthoven.data.store.signals import Signals
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd

APART = 10**13  # between the numbers of one source and those of the next
PTBXL = "ptbxl"  # records of this source are known by their number wherever they stand


class Source(Protocol):
    """What the parts of a `Concat` have to be."""

    label_sets: tuple[str, ...]

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the packed store."""

    def positives(self, table: pd.DataFrame, task: str, min_likelihood: float = 0.0) -> list[set[str]]:
        """Classes that each record is positive for."""

    def annotates(self, table: pd.DataFrame, task: str) -> dict[str, frozenset[str]]:
        """Classes that each origin of the records says something about."""

    def class_of(self, task: str) -> dict[str, str]:
        """Class of each SCP-ECG statement, as in `einthoven.data.sources.labels.Labels`."""


@dataclass(frozen=True)
class Concat:
    """Named sources, one after the other.

    Records that two sources share because both have them from PTB-XL are taken from the first. Other records and
    patients of different sources are different ones: their numbers are kept apart.

    Parameters
    ----------
    sources : mapping of str to source
        Dataclasses; the following settings hold for all of them, whatever their own are.
    fs, cache, leads, seconds
        As in each source.
    classes : {'shared', 'all'}
        ``shared``: the classes that every source annotates; the others are left out, as their absence from a record
        need not mean that it is negative. ``all``: refuse where one source does not annotate a class of another.
    """

    sources: Mapping[str, Source]
    fs: float
    cache: str | Path
    classes: str = "shared"
    leads: Sequence[str] = LEADS
    seconds: float | None = 10.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.classes not in ("shared", "all"):
            raise UserError(f"data.classes={self.classes}: expected shared or all.")
        if not self.sources:
            raise UserError(
                "data.sources: none given; name them as in +data@data.sources.mine=folder data.sources.mine.root=…"
            )
        if slashed := [name for name in self.sources if "/" in name]:
            raise UserError(f"data.sources.{slashed[0]}: expected a name without a slash.")

    @property
    def label_sets(self) -> tuple[str, ...]:
        """Label sets that all sources have."""
        first, *others = self.sources.values()
        return tuple(name for name in first.label_sets if all(name in other.label_sets for other in others))

    @property
    def parts(self) -> dict[str, Source]:
        """The sources, with the settings that hold for all."""
        common = {"fs": self.fs, "cache": self.cache, "leads": self.leads, "seconds": self.seconds}
        return {name: replace(source, **common) for name, source in self.sources.items()}  # type: ignore[type-var]

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the packed stores of the sources (or of one shard of each) as one; `check` as in each of them.

        Raises
        ------
        UserError
            If one cannot be opened, or their records differ in length.
        """
        import pandas as pd

        stores = {name: source.open(progress, shard, check=check) for name, source in self.parts.items()}
        tables, kept, seen = [], [], np.empty(0, np.int64)
        for number, (name, store) in enumerate(stores.items()):
            table = store.table.copy()
            known = (table["source"] == PTBXL).to_numpy()
            for column in ("ecg_id", "record_id", "patient_id"):
                table[column] += np.where(known, 0, number * APART)
            twice = known & np.isin(table["record_id"], seen)
            seen = np.union1d(seen, table["record_id"][known])
            table["source"] = [_called(name, own) for own in table["source"]]
            tables.append(table[~twice])
            kept.append(np.flatnonzero(~twice))
        return _joined(stores, kept, pd.concat(tables, ignore_index=True))

    def labels(self, table: pd.DataFrame, task: str, *, min_likelihood: float = 0.0, **options: bool) -> Labels:
        """Labels of the records in a store's table on the shared classes; options as in `label_matrix`."""
        positives: list[set[str]] = []
        annotated: dict[str, frozenset[str]] = {}
        said: tuple[str, ...] = ()
        for name, source, own in self._tables(table):
            positives += source.positives(own, task, min_likelihood)
            for origin, classes in source.annotates(own, task).items():
                annotated[_called(name, origin)] = classes
            if isinstance(source, Folder):  # others have no notes but those on shared classes
                said += tuple(f"{name}: {note}" for note in source.notes(own))
        shared, notes = shared_classes(annotated, refuse=self.classes == "all")
        return label_matrix(
            table,
            [found & shared for found in positives],
            task,
            class_of={name: c for source in self.parts.values() for name, c in source.class_of(task).items()},
            notes=notes + said,
            **options,
        )

    def _tables(self, table: pd.DataFrame) -> Iterator[tuple[str, Source, pd.DataFrame]]:
        """The rows of each source, with the `source` that they have there."""
        split = table["source"].str.partition("/")
        for name, source in self.parts.items():
            own = split[0] == name
            if own.any():
                origin = split[2][own].where(split[2][own] != "", name)
                yield name, source, table[own].assign(source=origin)


def _called(name: str, origin: str) -> str:
    """Where a record is from: the source, and what it says itself, if that is more."""
    return name if origin in (name, "folder") else f"{name}/{origin}"


def _joined(stores: Mapping[str, Store], kept: Sequence[NDArray[np.int64]], table: pd.DataFrame) -> Store:
    """One store over the kept rows of several: their packs, side by side."""
    import pandas as pd

    lengths = {name: store.signals.shape[2] for name, store in stores.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {samples}" for name, samples in lengths.items())
        raise UserError(f"data.sources: samples per record differ ({found}); data.seconds=… brings them to one length.")
    parts = [store.signals for store in stores.values()]
    starts = np.cumsum([0, *(sum(part.sizes) for part in parts)])
    signals = Signals(
        [file for part in parts for file in part.files],
        [size for part in parts for size in part.sizes],
        np.concatenate([part.rows[rows] + start for part, rows, start in zip(parts, kept, starts[:-1], strict=True)]),
        *parts[0].shape[1:],
    )
    digest = hashlib.sha256("".join(store.fingerprint for store in stores.values()).encode())
    digest.update(table.to_csv(index=False).encode())
    fingerprint = digest.hexdigest()
    first = next(iter(stores.values()))
    name = f"{'+'.join(stores)}-{first.fs:g}hz-{fingerprint[:16]}"
    quarantine = pd.concat([store.quarantine for store in stores.values()], ignore_index=True)
    times = [store.checked for store in stores.values() if store.checked is not None]
    notes = tuple(f"{source}: {note}" for source, store in stores.items() for note in store.notes)
    digests = np.concatenate([store.digests[rows] for store, rows in zip(stores.values(), kept, strict=True)])
    path = first.path.with_name(name)
    checked = min(times, default=None)
    return Store(path, signals, table, first.fs, first.leads, fingerprint, quarantine, notes, digests, checked)
