"""The state of a source: which store belongs to it, and when its record files were last checked.

To check every record file for changes takes longer than a training on a small corpus. So a build saves the state of the
source in the cache: the options, the content of the label tables, and the name of the store. If the state is still the
same, `train` opens that store and prints when the record files were checked. `prepare` always checks them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import einthoven
from einthoven.atomic import remove_leftovers, write_text
from einthoven.data.store.build_store import open_or_build
from einthoven.data.store.open_store import open_store
from einthoven.data.store.packed_store import Store
from einthoven.data.store.packing import Progress
from einthoven.data.store.plan import CHECKSUM_FORMAT, CONTENT_FORMAT, FORMAT, Plan
from einthoven.data.store.store_folder import is_complete
from einthoven.errors import UserError
from einthoven.files import file_digest, seal, unseal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


@dataclass(frozen=True)
class SourceState:
    """The inputs of a store that can be read without a look at each record.

    Attributes
    ----------
    name : str
        Name of the source, for people who look into the cache.
    options : str
        Hash of the options that change signals or table, and of the format of stores.
    earlier_options : str
        The same hash with the format before. A cache may hold a store of that format.
    tables : str
        Hash of the label tables, or of the list of records.
    folds : str
        Hash of the saved folds.
    """

    name: str
    options: str
    earlier_options: str
    tables: str
    folds: str = ""

    @classmethod
    def read(
        cls,
        root: Path,
        options: Mapping[str, Any],
        tables: Iterable[Path] = (),
        names: Iterable[str] = (),
        folds: Iterable[Path] = (),
    ) -> SourceState:
        """Return the present state of a source.

        Parameters
        ----------
        root : Path
        options : mapping
            The options that change signals or table.
        tables : iterable of Path
            Files of labels.
        names : iterable of str
            Names of the records, if no table lists them.
        folds : iterable of Path
            Files of saved folds; they need not exist.
        """
        described = [str(root.resolve()), sorted(options.items())]
        version = [einthoven.__version__, FORMAT]
        earlier_version = [einthoven.__version__, CONTENT_FORMAT, CHECKSUM_FORMAT]
        contents = [*map(_digest_file, tables), *names]
        return cls(
            name=root.resolve().name,
            options=_hash(json.dumps([version, *described], default=str)),
            earlier_options=_hash(json.dumps([earlier_version, *described], default=str)),
            tables=_hash("\n".join(contents)),
            folds=_hash("\n".join(map(_digest_file, folds))),
        )

    @property
    def content(self) -> str:
        """Hash of tables and folds."""
        return _hash(self.tables + self.folds)

    def file(self, cache: Path) -> Path:
        """Return the file in the cache that names the store of this source."""
        return cache / "checked" / f"{self.name}-{self.options[:16]}.json"


@dataclass(frozen=True)
class _SavedCheck:
    """The last check of a source, as the cache saves it."""

    content: str
    """As in `SourceState`."""
    store: Path
    """The store that was made."""
    fingerprint: str
    """Fingerprint of that store."""
    time: float
    """Unix time of the check."""


def open_source(
    state: Callable[[], SourceState],
    plan: Callable[[], Plan],
    cache: Path,
    progress: Progress | None,
    shard: tuple[int, int] | None,
    check: bool,
) -> Store:
    """Open the store of a source; build it on first use.

    Parameters
    ----------
    state, plan : callable
        They return the present state of the source, and the plan of its store.
    cache, progress, shard
        As in `open_or_build`.
    check : bool
        Check every record file for changes. Without it, they are checked only if the state of the source has changed,
        or if its store does not exist. If the records can no longer be read, a store that an earlier version made of
        the same source is opened.

    Raises
    ------
    UserError
        As `open_or_build`.
    """
    for folder in (cache, cache / "checked", cache / "stores", *cache.glob("packs/*")):
        remove_leftovers(folder)
    if not check and shard is None:
        store = _known_store(state(), cache)
        if store is not None:
            return store
    before = state()
    started = time.time()
    try:
        store_plan = plan()
        after = state()
        last_check = _read_check(after, cache)
        store = open_or_build(store_plan, cache, progress, shard)
    except UserError as error:
        earlier = replace(before, options=before.earlier_options)
        earlier_store = None if check or shard is not None else _known_store(earlier, cache)
        if earlier_store is None:
            raise
        note = f"the records cannot be read again ({error}); the store of an earlier version is used"
        return replace(earlier_store, notes=(note, *earlier_store.notes))
    if shard is not None:
        return store
    # If a table changed while it was read, nothing is saved. Saved folds may differ, because `plan` may add new ones.
    if before.tables == after.tables:
        _write_check(after, store, started, cache)
    return replace(store, notes=(*store.notes, *_describe_changes(last_check, store)))


def state_of(source: Any) -> Hashable | None:
    """Return what the store and the labels of a source follow from, as its method ``state`` says.

    Two equal states mean the same store and labels, as long as no record file was checked again. None: the source does
    not know, or its store is not known yet. A source of a user need not have the method.
    """
    state: Callable[[], Hashable | None] | None = getattr(source, "state", None)
    return None if state is None else state()


def known_state(state: Callable[[], SourceState], cache: Path) -> Hashable | None:
    """Return the present state of a source and its last check; None if its store is not known, or not complete."""
    now = state()
    last_check = _read_check(now, cache)
    if last_check is None or last_check.content != now.content or not is_complete(last_check.store):
        return None
    return now, last_check


def own_options(source: DataclassInstance, *others: str) -> dict[str, Any]:
    """Return the options of a source that change signals or table: all but `root`, `cache` and the `others`."""
    return {name: value for name, value in asdict(source).items() if name not in ("root", "cache", *others)}


def ago(seconds: float) -> str:
    """Return a time that has passed in words, such as ``3 hours ago``."""
    for length, unit in UNITS:
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "less than a minute ago"


def _known_store(state: SourceState, cache: Path) -> Store | None:
    """Open the store that was made from a source in this state, if it still exists."""
    last_check = _read_check(state, cache)
    if last_check is None or last_check.content != state.content or not is_complete(last_check.store):
        return None
    store = open_store(last_check.store)
    if store.fingerprint != last_check.fingerprint:
        return None
    return replace(store, checked=last_check.time)


def _read_check(state: SourceState, cache: Path) -> _SavedCheck | None:
    """Read the last check of a source with these options; its tables may have had another content."""
    try:
        content = unseal(state.file(cache).read_text(encoding="utf-8"))
        store = cache / "stores" / Path(content["store"]).name
        return _SavedCheck(content["state"], store, content["fingerprint"], float(content["checked"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        # The file is missing or damaged. Then all record files are checked.
        return None


def _write_check(state: SourceState, store: Store, started: float, cache: Path) -> None:
    file = state.file(cache)
    content = {
        "state": state.content,
        "store": store.path.name,
        "fingerprint": store.fingerprint,
        "checked": started,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, seal(content))


def _describe_changes(last_check: _SavedCheck | None, store: Store) -> tuple[str, ...]:
    """Return one sentence about what has changed in the store since the last check; nothing if there was none."""
    if last_check is None:
        return ()
    when = ago(time.time() - last_check.time)
    if last_check.fingerprint == store.fingerprint:
        return (f"The files of the records have not changed since they were checked {when}.",)
    try:
        before = open_store(last_check.store)
    except UserError:
        return (f"The files of the records have changed since they were checked {when}.",)
    added = int((~np.isin(store.digests, before.digests)).sum())
    removed = int((~np.isin(before.digests, store.digests)).sum())
    parts = []
    if added:
        parts.append(f"new or changed signals: {added}")
    if removed:
        parts.append(f"removed signals: {removed}")
    if not parts:
        parts.append("signals are the same, but labels, folds or rows are not")
    return (f"The files of the records have changed since they were checked {when}: {', '.join(parts)}.",)


def _digest_file(file: Path) -> str:
    return file_digest(file) if file.is_file() else "none"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
