"""The records of a run: opened, labelled, and kept in memory for the next run of the same process.

The runs of a sweep and the folds of a cross-validation mostly read the same records. So the last store is kept, with
its labels and its signals on the device. The next run gets them if the options of source and task and the state of the
source are the same. No run changes them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.build import build
from einthoven.contracts import TaskKind
from einthoven.data.sources.labels import Labels, no_labels
from einthoven.data.sources.masks import mask_labels, refuse_without_masks
from einthoven.data.sources.source_state import ago, state_of
from einthoven.data.sources.statement_targets import StatementTargets, statement_targets
from einthoven.data.sources.targets import targets
from einthoven.data.sources.truth import refuse_without_truth, truth_labels
from einthoven.data.store.packed_store import Store
from einthoven.data.store.splits import free_memory, load_rows
from einthoven.errors import UserError
from einthoven.runs.config.settings import source_options
from einthoven.terminal.display import bar, say

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class _Resident:
    """Signals in the memory of a device: int16 µV (n, L, T), one for each of these rows of the store."""

    rows: NDArray[np.int64]
    device: torch.device
    signals: torch.Tensor


class Records:
    """A store and the labels of a task, which several runs may share. Nobody writes into them.

    Parameters
    ----------
    labels : Labels
        Its arrays become read-only.
    key : hashable or None
        What store and labels follow from. None: they are not kept for another run.
    targets : StatementTargets or None
        What a network learns, if it learns other labels than `labels`.
    """

    def __init__(
        self, store: Store, labels: Labels, key: Hashable | None, targets: StatementTargets | None = None
    ) -> None:
        self.store = store
        self.labels = labels
        self.targets = targets
        self.key = key
        self._resident: _Resident | None = None
        for array in (labels.matrix, labels.ecg_ids, labels.folds, labels.patients):
            array.flags.writeable = False

    def load_signals(self, rows: NDArray[np.int64], device: torch.device, residency: str) -> torch.Tensor | None:
        """Return the signals of some rows of the store on a device, int16 µV (n, L, T); None if they stay on the disk.

        `residency` is ``device``, ``stream`` (stay on the disk), or ``auto``: on the device if half of its free memory
        holds them.
        """
        resident = self._resident
        is_loaded = resident is not None and resident.device == device and np.array_equal(resident.rows, rows)
        if is_loaded and residency != "stream":
            assert resident is not None
            return resident.signals
        del resident
        self._free_signals()
        shape = self.store.signals.shape
        needed = 2 * len(rows) * shape[1] * shape[2]
        if residency == "stream" or (residency == "auto" and needed > free_memory(device) // 2):
            return None
        signals = load_rows(self.store.signals, rows, device)
        self._resident = _Resident(rows, device, signals)
        return signals

    def _free_signals(self) -> None:
        if self._resident is not None:
            self._resident = None
            # The parts of a run refer to each other, so that only this frees the signals of an earlier run.
            gc.collect()


_kept: list[Records] = []
"""The records of the last run of this process, if another run may have the same. It holds at most one element."""


def forget_records() -> None:
    """Free the memory of the records that are kept for the next run."""
    if _kept:
        _kept.clear()
        gc.collect()


def read_records(config: DictConfig, task: Any, *, checks_files: bool) -> Records:
    """Open the store of a configuration (it is built on first use), and read or measure the labels of its task.

    If `checks_files` is false, the files of the records are not compared with the store: the terminal says so, and the
    records of the run before are used again if nothing else has changed.
    """
    source = build(source_options(config), "data")
    _refuse_other_labels(source, task)
    key = None if checks_files else _key(config, source)
    if key is not None and _kept and _kept[0].key == key:
        # The notes about the store were said when it was opened.
        records = _kept[0]
    else:
        forget_records()
        with bar("preparing records") as progress:
            store: Store = source.open(progress, check=checks_files)
        _describe_store(store)
        labels = _label(source, store, task)
        records = Records(store, labels, key, _read_targets(source, store, labels, task))
        if key is not None:
            _kept.append(records)
    _describe_labels(records.labels, task)
    return records


def fingerprint(config: DictConfig) -> str:
    """Return the fingerprint of the records of a configuration; their store is built on first use."""
    source = build(source_options(config), "data")
    key = _key(config, source)
    if key is not None and _kept and _kept[0].key == key:
        return _kept[0].store.fingerprint
    with bar("preparing records") as progress:
        return str(source.open(progress, check=False).fingerprint)


def _key(config: DictConfig, source: Any) -> Hashable | None:
    """Return what store and labels follow from; None if the configuration or the source does not say it."""
    from omegaconf import OmegaConf

    state = state_of(source)
    if state is None:
        return None
    # A probe composes its task itself, and reads its records once.
    if "task" not in config:
        return None
    options = [OmegaConf.to_yaml(part, resolve=True) for part in (source_options(config), config.task)]
    return (*options, state)


def _refuse_other_labels(source: Any, task: Any) -> None:
    """Refuse a source that has no labels for the task."""
    if task.kind is TaskKind.MASKS:
        refuse_without_masks(source)
    elif getattr(task, "reads_truth", False):
        refuse_without_truth(source)
    elif task.kind is TaskKind.CLASSES and task.labels not in source.label_sets:
        sets = ", ".join(source.label_sets)
        known = f"{sets}; expected one of them, such as task={source.label_sets[0]}" if sets else "no labels in common"
        raise UserError(f"task.labels={task.labels}: these data have {known}.")


def _label(source: Any, store: Store, task: Any) -> Labels:
    """Read or measure the labels of a task."""
    if getattr(task, "reads_truth", False):
        return truth_labels(source, store, task.labels)
    if task.kind is TaskKind.PRETEXT:
        return no_labels(store.table)
    if task.kind is TaskKind.QUANTITY:
        with bar(f"measuring {task.target}") as progress:
            return targets(store, task.target, progress)
    if task.kind is TaskKind.MASKS:
        return mask_labels(source, store)
    return source.labels(
        store.table,
        task.labels,
        single_label=task.single_label,
        keep_unlabelled=task.keep_unlabelled,
        min_likelihood=task.min_likelihood,
    )


def _read_targets(source: Any, store: Store, labels: Labels, task: Any) -> StatementTargets | None:
    """Read what the network learns, if the task names other labels for that."""
    name = getattr(task, "targets", None)
    if name is None:
        return None
    if name not in source.label_sets:
        sets = ", ".join(source.label_sets)
        raise UserError(f"task.targets={name}: these data have {sets}; expected a set of statements among them.")
    if not hasattr(source, "class_of"):
        raise UserError(
            f"task.targets={name}: the source {type(source).__name__} does not say which statements are in a class; "
            "expected a source with a method class_of, such as data=ptbxl, or null."
        )
    return statement_targets(
        source,
        store.table,
        labels,
        task.labels,
        name,
        soft=task.soft_targets,
        keep_unlabelled=task.keep_unlabelled,
        min_likelihood=task.min_likelihood,
    )


def _describe_store(store: Store) -> None:
    if store.checked is not None:
        when = ago(time.time() - store.checked)
        say(
            f"The files of {store.path.name} were checked {when}. einthoven prepare, with the same options of data, "
            "checks them again."
        )
    for note in store.notes:
        say(note)


def _describe_labels(labels: Labels, task: Any) -> None:
    for note in labels.notes:
        say(note)
    count = len(labels.ecg_ids)
    if task.kind is TaskKind.QUANTITY:
        say(f"{count:,} records have a value of {task.target}. {labels.dropped:,} records have none and are not used.")
    elif task.kind is TaskKind.CLASSES and task.single_label:
        say(f"{count:,} records have exactly one label. {labels.dropped:,} other records are not used.")
