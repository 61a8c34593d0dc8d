"""Several sources as one: shared classes, separate patients, and no record twice."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from einthoven.data.sources.folder import Folder
from einthoven.data.sources.labels import Labels, label_matrix, shared_classes
from einthoven.data.sources.source_state import state_of
from einthoven.data.store.packed_store import Store
from einthoven.data.store.packing import Progress
from einthoven.data.store.signals import Signals
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd

NUMBER_OFFSET = 10**13  # distance between the numbers of one source and those of the next
PTBXL = "ptbxl"  # a record of this source has the same number in every source


class Source(Protocol):
    """A source that can be a part of a `Concat`."""

    @property
    def label_sets(self) -> tuple[str, ...]:
        """Names of the label sets."""

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the packed store."""

    def positives(self, table: pd.DataFrame, task: str, min_likelihood: float = 0.0) -> list[set[str]]:
        """Return the positive classes of each record."""

    def annotates(self, table: pd.DataFrame, task: str) -> dict[str, frozenset[str]]:
        """Return the classes that each origin of the records annotates."""

    def class_of(self, task: str) -> dict[str, str]:
        """Return the class of each SCP-ECG statement, as in `einthoven.data.sources.labels.Labels`."""


@dataclass(frozen=True)
class Concat:
    """Named sources, one after the other.

    If two sources contain the same record of PTB-XL, it is taken from the first one. All other records and patients of
    different sources are different, and get different numbers.

    Parameters
    ----------
    sources : mapping of str to source
        Sources are dataclasses. The next four options replace those of each source.
    fs, cache, leads, seconds
        As in each source.
    classes : {'shared', 'all'}
        ``shared``: only the classes that every source annotates, because a record without a class that its source does
        not annotate need not be negative. ``all``: raise an error if a source does not annotate a class of another one.
    """

    sources: Mapping[str, Source]
    fs: float
    cache: str | Path
    classes: str = "shared"
    leads: Sequence[str] = LEADS
    seconds: float | None = 10.0

    def __post_init__(self) -> None:
        """Check the options."""
        if self.classes not in ("shared", "all"):
            raise UserError(f"data.classes={self.classes}: expected shared or all.")
        if not self.sources:
            raise UserError(
                "data.sources: none given; name them as in +data@data.sources.mine=folder data.sources.mine.root=…"
            )
        for name in self.sources:
            if "/" in name:
                raise UserError(f"data.sources.{name}: expected a name without a slash.")

    @property
    def label_sets(self) -> tuple[str, ...]:
        """Label sets that all sources have."""
        first, *others = self.sources.values()
        return tuple(name for name in first.label_sets if all(name in other.label_sets for other in others))

    @property
    def parts(self) -> dict[str, Source]:
        """The sources, with the options that hold for all."""
        common = {"fs": self.fs, "cache": self.cache, "leads": self.leads, "seconds": self.seconds}
        parts: dict[str, Source] = {}
        for name, source in self.sources.items():
            # A store that is packed already has no cache and no length to choose.
            own = {option.name for option in fields(source)}  # type: ignore[arg-type]
            shared = {option: value for option, value in common.items() if option in own}
            parts[name] = replace(source, **shared)  # type: ignore[type-var]
        return parts

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
        tables = []
        rows_of_stores = []
        earlier_ptbxl = np.empty(0, np.int64)
        for number, (name, store) in enumerate(stores.items()):
            table = store.table.copy()
            is_ptbxl = (table["source"] == PTBXL).to_numpy()
            for column in ("ecg_id", "record_id", "patient_id"):
                table[column] += np.where(is_ptbxl, 0, number * NUMBER_OFFSET)
            # Leave out the records of PTB-XL that an earlier source has, too.
            is_repeated = is_ptbxl & np.isin(table["record_id"], earlier_ptbxl)
            earlier_ptbxl = np.union1d(earlier_ptbxl, table["record_id"][is_ptbxl])
            table["source"] = [_join_origin(name, origin) for origin in table["source"]]
            tables.append(table[~is_repeated])
            rows_of_stores.append(np.flatnonzero(~is_repeated))
        return _join_stores(stores, rows_of_stores, pd.concat(tables, ignore_index=True))

    def state(self) -> Hashable | None:
        """Return what store and labels follow from, as `einthoven.data.sources.source_state.state_of` needs it."""
        states = tuple(state_of(source) for source in self.parts.values())
        return None if None in states else states

    def class_of(self, task: str) -> dict[str, str]:
        """Return the class of each SCP-ECG statement, as in `einthoven.data.sources.labels.Labels`."""
        class_of: dict[str, str] = {}
        for source in self.parts.values():
            class_of |= source.class_of(task)
        return class_of

    def labels(self, table: pd.DataFrame, task: str, *, min_likelihood: float = 0.0, **options: bool) -> Labels:
        """Return the labels of a table on the shared classes; options as in `label_matrix`."""
        positives: list[set[str]] = []
        annotated: dict[str, frozenset[str]] = {}
        source_notes: list[str] = []
        for name, source, source_table in self._tables(table):
            positives += source.positives(source_table, task, min_likelihood)
            for origin, classes in source.annotates(source_table, task).items():
                annotated[_join_origin(name, origin)] = classes
            # Other sources have notes on shared classes only.
            if isinstance(source, Folder):
                source_notes += [f"{name}: {note}" for note in source.notes(source_table)]
        shared, notes = shared_classes(annotated, refuse=self.classes == "all")
        return label_matrix(
            table,
            [classes & shared for classes in positives],
            task,
            class_of=self.class_of(task),
            notes=(*notes, *source_notes),
            **options,
        )

    def _tables(self, table: pd.DataFrame) -> Iterator[tuple[str, Source, pd.DataFrame]]:
        """Yield the name, the source and the rows of each part; the column `source` is as in that source."""
        split = table["source"].str.partition("/")
        for name, source in self.parts.items():
            is_of_source = split[0] == name
            if is_of_source.any():
                origin = split[2][is_of_source].where(split[2][is_of_source] != "", name)
                yield name, source, table[is_of_source].assign(source=origin)


def _join_origin(name: str, origin: str) -> str:
    """Return the name of a source, followed by the origin of the record if that differs from the name."""
    return name if origin in (name, "folder") else f"{name}/{origin}"


def _join_stores(
    stores: Mapping[str, Store], rows_of_stores: Sequence[NDArray[np.int64]], table: pd.DataFrame
) -> Store:
    """Return one store over some rows of several stores; it points to the packs of all of them."""
    import pandas as pd

    lengths = {name: store.signals.shape[2] for name, store in stores.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {samples}" for name, samples in lengths.items())
        raise UserError(
            f"data.sources: samples per record differ ({listed}); data.seconds=… brings them to one length."
        )

    # Rows are counted over the packs of all stores, one store after the other.
    files: list[Path] = []
    sizes: list[int] = []
    rows = []
    digests = []
    for store, store_rows in zip(stores.values(), rows_of_stores, strict=True):
        rows.append(store.signals.rows[store_rows] + sum(sizes))
        digests.append(store.digests[store_rows])
        files += store.signals.files
        sizes += store.signals.sizes
    first = next(iter(stores.values()))
    leads, samples = first.signals.shape[1:]

    digest = hashlib.sha256("".join(store.fingerprint for store in stores.values()).encode())
    digest.update(table.to_csv(index=False).encode())
    fingerprint = digest.hexdigest()
    check_times = [store.checked for store in stores.values() if store.checked is not None]
    return Store(
        path=first.path.with_name(f"{'+'.join(stores)}-{first.fs:g}hz-{fingerprint[:16]}"),
        signals=Signals(files, sizes, np.concatenate(rows), leads, samples),
        table=table,
        fs=first.fs,
        leads=first.leads,
        fingerprint=fingerprint,
        quarantine=pd.concat([store.quarantine for store in stores.values()], ignore_index=True),
        notes=tuple(f"{name}: {note}" for name, store in stores.items() for note in store.notes),
        stored_digests=np.concatenate(digests),
        checked=min(check_times, default=None),
        parts=tuple(zip(stores.values(), rows_of_stores, strict=True)),
    )
