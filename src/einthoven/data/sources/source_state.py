"""Which store belongs to a source, and when its files were last checked.

Asking every record file whether it has changed takes longer than training on a small corpus. So a build notes the state
of the source in the cache: its options, its tables of labels (by their content) and the store that was made. As long as
these are the same, `train` opens that store, and says when the record files were checked. `prepare` always checks them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import einthoven
from einthoven.atomic import write_text
from einthoven.data.store.packed_store import Progress, Store, is_complete, open_or_build, open_store
from einthoven.data.store.plan import FILE_FORMAT, FORMAT, Plan
from einthoven.errors import UserError
from einthoven.files import file_digest, seal, unseal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


@dataclass(frozen=True)
class SourceState:
    """What a store is made of, as far as it is known without looking at each record.

    Attributes
    ----------
    name : str
        Of the source, for people who look into the cache.
    options : str
        Hash of the options that signals and table follow from.
    tables : str
        Hash of the tables of labels, or of the list of records.
    folds : str
        Hash of the saved folds.
    """

    name: str
    options: str
    tables: str
    folds: str = ""

    @classmethod
    def of(
        cls,
        root: Path,
        options: Mapping[str, Any],
        tables: Iterable[Path] = (),
        names: Iterable[str] = (),
        folds: Iterable[Path] = (),
    ) -> SourceState:
        """The state of a source now.

        Parameters
        ----------
        root : Path
        options : mapping
            Whatever changes signals or table.
        tables : iterable of Path
            Files of labels.
        names : iterable of str
            Names of the records, where no table lists them.
        folds : iterable of Path
            Files of saved folds, as far as they are there.
        """
        version = [einthoven.__version__, FORMAT, FILE_FORMAT]
        text = json.dumps([version, str(root.resolve()), sorted(options.items())], default=str)
        contents = [*map(_content, tables), *names]
        return cls(
            name=root.resolve().name,
            options=_hash(text),
            tables=_hash("\n".join(contents)),
            folds=_hash("\n".join(map(_content, folds))),
        )

    def file(self, cache: Path) -> Path:
        """Where the cache notes the store of this source."""
        return cache / "checked" / f"{self.name}-{self.options[:16]}.json"


@dataclass(frozen=True)
class Noted:
    """What the cache notes of a source."""

    state: str
    store: Path
    fingerprint: str
    checked: float


def open_source(
    state: Callable[[], SourceState],
    plan: Callable[[], Plan],
    cache: Path,
    progress: Progress | None,
    shard: tuple[int, int] | None,
    check: bool,
) -> Store:
    """Open the store of a source, building it on first use.

    Parameters
    ----------
    state, plan : callable
        The state of the source as it is now, and what its store is to hold.
    cache, progress, shard
        As in `open_or_build`.
    check : bool
        Ask every record file whether it has changed. Otherwise only where the state of the source has changed, or its
        store is not there.

    Raises
    ------
    UserError
        As `open_or_build`.
    """
    if not check and shard is None:
        store = _known_store(state(), cache)
        if store is not None:
            return store
    before = state()
    planned = plan()
    after = state()
    started = time.time()
    noted = _noted(after, cache)
    store = open_or_build(planned, cache, progress, shard)
    if shard is not None:
        return store
    # A table that changed while it was read must not stand for what was read. Saved folds may have grown by our own.
    if before.tables == after.tables:
        _note(after, store, started, cache)
    return replace(store, notes=(*store.notes, *_changes(noted, store)))


def own_options(source: DataclassInstance, *others: str) -> dict[str, Any]:
    """The options of a source that signals and table follow from: not where things are, nor the `others`."""
    return {name: value for name, value in asdict(source).items() if name not in ("root", "cache", *others)}


def ago(seconds: float) -> str:
    """A time that has passed, in words."""
    for length, unit in UNITS:
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "less than a minute ago"


def _known_store(state: SourceState, cache: Path) -> Store | None:
    """The store that was made of a source in this state, if it is still there."""
    noted = _noted(state, cache)
    if noted is None or noted.state != _whole(state) or not is_complete(noted.store):
        return None
    store = open_store(noted.store)
    return replace(store, checked=noted.checked) if store.fingerprint == noted.fingerprint else None


def _noted(state: SourceState, cache: Path) -> Noted | None:
    """What the cache notes of a source with these options, whatever its state was then."""
    try:
        content = unseal(state.file(cache).read_text(encoding="utf-8"))
        store = cache / "stores" / Path(content["store"]).name
        return Noted(content["state"], store, content["fingerprint"], float(content["checked"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # then everything is checked
        return None


def _note(state: SourceState, store: Store, checked: float, cache: Path) -> None:
    file = state.file(cache)
    content = {
        "state": _whole(state),
        "store": store.path.name,
        "fingerprint": store.fingerprint,
        "checked": checked,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, seal(content))


def _changes(noted: Noted | None, store: Store) -> tuple[str, ...]:
    """What is different from the store that was made when the source was last checked, in one sentence."""
    if noted is None:
        return ()
    when = ago(time.time() - noted.checked)
    if noted.fingerprint == store.fingerprint:
        return (f"sources checked: nothing has changed since they were checked {when}",)
    try:
        before = open_store(noted.store)
    except UserError:
        return (f"sources checked: they have changed since they were checked {when}",)
    added = int((~np.isin(store.digests, before.digests)).sum())
    gone = int((~np.isin(before.digests, store.digests)).sum())
    parts = [f"{added} signals are new or changed"] if added else []
    parts += [f"{gone} signals of then are not there"] if gone else []
    parts += ["signals are the same, labels, folds or rows are not"] if not parts else []
    return (f"sources checked: changed since they were checked {when}: {', '.join(parts)}",)


def _whole(state: SourceState) -> str:
    return _hash(state.tables + state.folds)


def _content(file: Path) -> str:
    return file_digest(file) if file.is_file() else "none"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
