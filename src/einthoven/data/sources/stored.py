"""A packed store as a source: its records and labels without the files that they were read from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven import trust
from einthoven.data.sources.labels import Labels
from einthoven.data.store.open_store import open_store
from einthoven.data.store.packed_store import Store
from einthoven.data.store.packing import Progress
from einthoven.data.store.store_folder import STORE_FILE
from einthoven.data.store.store_origin import FILE, FOLDER, Origin
from einthoven.errors import UserError
from einthoven.files import file_digest
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    import pandas as pd

LISTED = 3  # stores that a message names


@dataclass(frozen=True)
class StoredCorpus:
    """The folder of a packed store. The table of the store has patients, folds and what labels are made from.

    Parameters
    ----------
    root : path
        Folder of the store, in ``stores/`` of a cache. The packs of the cache must be there, too.
    fs : float
        Sampling frequency of the store in Hz.
    leads : sequence of str
        Leads of the store, in their order.
    """

    root: str | Path
    fs: float
    leads: Sequence[str] = LEADS

    def open(
        self, progress: Progress | None = None, shard: tuple[int, int] | None = None, *, check: bool = True
    ) -> Store:
        """Open the store. There are no files to check.

        Raises
        ------
        UserError
            If there is no store, if it is damaged, or if it has another sampling frequency or other leads.
        """
        if shard is not None:
            raise UserError("data.shard: the records of a store are packed already; expected null.")
        origin = self._origin
        store = open_store(Path(self.root))
        if store.fs != self.fs:
            raise UserError(f"data.fs={self.fs:g}: the store has {store.fs:g} Hz; expected data.fs={store.fs:g}.")
        if store.leads != tuple(self.leads):
            leads = ",".join(store.leads)
            raise UserError(f"data.leads: the store has other leads; expected data.leads=[{leads}].")
        return replace(store, origin=origin)

    def state(self) -> Hashable | None:
        """Return what store and labels follow from, as `einthoven.data.sources.source_state.state_of` needs it."""
        files = [Path(self.root) / name for name in (STORE_FILE, FILE)]
        # The first has the checksums of the store, and the second those of the files that labels are made from.
        return tuple(file_digest(file) for file in files) if all(file.is_file() for file in files) else None

    @property
    def label_sets(self) -> tuple[str, ...]:
        """Label sets of the source of the store."""
        return self._source.label_sets

    def labels(self, table: pd.DataFrame, task: str, **options: bool | float) -> Labels:
        """Return the labels of the records in the table of a store, as its source does."""
        return self._source.labels(table, task, **options)

    def positives(self, table: pd.DataFrame, task: str, min_likelihood: float = 0.0) -> list[set[str]]:
        """Return the positive classes of each record in the table of a store."""
        return self._source.positives(table, task, min_likelihood)

    def annotates(self, table: pd.DataFrame, task: str) -> dict[str, frozenset[str]]:
        """Return the classes that each origin of the records annotates."""
        return self._source.annotates(table, task)

    def class_of(self, task: str) -> dict[str, str]:
        """Return the class of each SCP-ECG statement, as in `einthoven.data.sources.labels.Labels`."""
        return self._source.class_of(task)

    @cached_property
    def _origin(self) -> Origin:
        root = Path(self.root)
        if not (root / STORE_FILE).is_file():
            raise UserError(f"data.root={root}: no packed store; expected {_describe_stores(root)}.")
        return Origin.read(root)

    @cached_property
    def _source(self) -> Any:
        """The source that made the store. It reads the copies of the files that labels are made from."""
        root = Path(self.root)
        origin = self._origin
        source_class = trust.find_target(origin.target, "data")
        try:
            return source_class(root=root / FOLDER, cache=root.parent.parent, **origin.options)
        except TypeError as error:
            raise UserError(f"{root}: its source {trust.printable(origin.target)} has changed ({error}).") from None


def _describe_stores(root: Path) -> str:
    """Return what a user may have meant: the stores in a cache, the newest first, or a folder of a cache."""
    stores = [file.parent for folder in (root, root / "stores") for file in folder.glob(f"*/{STORE_FILE}")]
    if not stores:
        return "the folder of a store, which is in stores/ of data.cache"
    stores.sort(key=lambda store: store.stat().st_mtime, reverse=True)
    return " or ".join(map(str, stores[:LISTED]))
