"""Load the data of a run: open the store, label and split its records, and move each split to the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.contracts import TaskKind
from einthoven.data.ancestry import Ancestry, generator_notes, refuse_seen_records, remove_used_records
from einthoven.data.identity import DataIdentity
from einthoven.data.record_names import NameRecord, names_in
from einthoven.data.sources.labels import Labels
from einthoven.data.sources.splits import SPLITS, split_rows
from einthoven.data.store.packed_store import Store
from einthoven.data.store.splits import DeviceSplit, Split, StreamedSplit
from einthoven.evaluation.metrics import have_both_labels
from einthoven.runs.data.records import Records, read_records
from einthoven.runs.data.run_data import Data
from einthoven.runs.folder.base_model import BaseModel
from einthoven.runs.folder.trained_data import TrainedData
from einthoven.terminal.display import say
from einthoven.training.memory import memory_for

if TYPE_CHECKING:
    from omegaconf import DictConfig


def load_data(
    config: DictConfig,
    folds: Mapping[str, list[int]],
    task: Any,
    device: torch.device,
    seed: int,
    trained: TrainedData | None = None,
    base: BaseModel | None = None,
) -> Data:
    """Open the store (it is built on first use), label and split its records, and move each split to the device.

    No record of validation or test has the same signal as a record that is used before it. The records of a run that
    was trained before must still be there, unchanged; others may have been added only if `trained` allows it. The model
    that the run starts from must not have seen the records of validation and test.
    """
    # If the run was trained before, the files of the records are checked again.
    records = read_records(config, task, checks_files=trained is not None)
    store = records.store
    labels = records.labels
    targets = records.targets
    stored_ids = store.table["ecg_id"].to_numpy(np.int64)
    store_rows = _rows_of_ids(stored_ids, labels.ecg_ids)
    # What a run has learned must not change. What is read from it may.
    learned = labels if targets is None else targets.labels
    identity = DataIdentity.from_store(store, learned, _rows_of_ids(stored_ids, learned.ecg_ids))

    # Split by folds. Then leave out what an earlier split, or the run before, has already used.
    added = None if trained is None else trained.added(store, identity)[store_rows]
    rows = split_rows(labels, folds, added)
    # The same in each fold of a cross-validation, so that all folds share the signals.
    loaded_rows = np.unique(np.concatenate(list(rows.values())))
    ancestry = Ancestry() if trained is None else trained.ancestry
    rows, notes = _without_used_records(rows, store, identity, store_rows, added, ancestry, base)

    for note in notes:
        say(f"{note}.")
    for note in task.notes(labels.matrix[rows["train"]], labels.classes):
        say(note)
    if targets is not None:
        say(targets.describe(rows["train"]))
    if len(np.unique(labels.patients[rows["train"]])) == 1:
        say("All training records are of one patient, so that the model learns only this patient.")
    rows = _without_unmeasurable_splits(rows, labels, task, folds)

    matrix = labels.matrix if targets is None else np.hstack([labels.matrix, targets.values])
    matrices = {split: task.encode(matrix[rows[split]]) for split in SPLITS}
    matrices["train"] = task.shuffle(matrices["train"], seed)
    splits = _load_splits(records, rows, store_rows, loaded_rows, matrices, device, config.trainer.residency)
    return Data(store, labels, rows, store_rows, splits, identity, notes, targets)


def _without_used_records(
    rows: Mapping[str, NDArray[np.int64]],
    store: Store,
    identity: DataIdentity,
    store_rows: NDArray[np.int64],
    added: NDArray[np.bool_] | None,
    ancestry: Ancestry,
    base: BaseModel | None,
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Leave out records that an earlier split or the run before has used. Return the other rows, and notes about both.

    `added` and `ancestry` are of the run before: which rows it did not have, and which records it has used. Raises a
    `UserError` if the base has seen a record of validation or test.
    """
    record_ids = identity.record_ids[store_rows]
    digests = identity.digests[store_rows]
    name = names_in(store.table)
    if base is not None and base.ancestry is not None:
        # A record that the base has seen is refused below, not left out.
        ancestry = ancestry.without(base.ancestry)
    remaining, left_out = remove_used_records(rows, digests, record_ids, ancestry)
    notes = _notes_on_rows(remaining, left_out, record_ids, added, name)
    if store.records_left_out:
        notes = (store.records_left_out, *notes)
    if base is not None and base.ancestry is not None:
        held_out = {split: remaining[split] for split in ("val", "test")}
        first_seconds = store.first_seconds[store_rows]
        refuse_seen_records(held_out, digests, first_seconds, record_ids, base.ancestry, base.source, name)
        notes += generator_notes(held_out, first_seconds, record_ids, base.ancestry, base.logged_source, name)
    return remaining, notes


def _without_unmeasurable_splits(
    rows: Mapping[str, NDArray[np.int64]], labels: Labels, task: Any, folds: Mapping[str, list[int]]
) -> dict[str, NDArray[np.int64]]:
    """Return the rows without those of a split that has no metrics, and say why."""
    measurable = dict(rows)
    for split in ("val", "test"):
        if not folds[split]:
            continue
        reason = _no_metrics_reason(task, labels.matrix[rows[split]], labels.matrix[rows["train"]])
        if reason:
            plural = "s" if len(folds[split]) > 1 else ""
            listed = ", ".join(map(str, folds[split]))
            say(f"There are no {split} metrics of fold{plural} {listed}: {reason}.")
            measurable[split] = rows[split][:0]
    return measurable


def _load_splits(
    records: Records,
    rows: Mapping[str, NDArray[np.int64]],
    store_rows: NDArray[np.int64],
    loaded_rows: NDArray[np.int64],
    matrices: Mapping[str, NDArray[Any]],
    device: torch.device,
    residency: str,
) -> dict[str, Split]:
    """Return the splits that have rows, with their labels. The signals of all loaded rows are read at once."""
    with memory_for("a copy of all signals to the device", "trainer.residency=stream"):
        signals = records.load_signals(store_rows[loaded_rows], device, residency)
    splits: dict[str, Split] = {}
    for split in SPLITS:
        if not rows[split].size:
            continue
        if signals is None:
            stored = records.store.signals
            splits[split] = StreamedSplit.open(stored, store_rows[rows[split]], matrices[split], device)
        else:
            places = np.searchsorted(loaded_rows, rows[split])
            splits[split] = DeviceSplit.of_loaded(signals, places, matrices[split])
    return splits


def _rows_of_ids(stored: NDArray[np.int64], ecg_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of each ecg_id among those of a store, which are unique and contain all of them."""
    order = np.argsort(stored, kind="stable")
    return order[np.searchsorted(stored, ecg_ids, sorter=order)]


def _no_metrics_reason(task: Any, labels: NDArray[Any], train_labels: NDArray[Any]) -> str:
    """Return why a split has no metrics; an empty text if it has some."""
    if not len(labels):
        return "no labelled records there"
    if task.kind is not TaskKind.CLASSES:
        return ""
    has_both = have_both_labels(labels) & have_both_labels(train_labels)
    return "" if has_both.any() else "no class has both labels there"


def _notes_on_rows(
    rows: Mapping[str, NDArray[np.int64]],
    left_out: Mapping[str, NDArray[np.int64]],
    record_ids: NDArray[np.int64],
    added: NDArray[np.bool_] | None,
    name: NameRecord,
) -> tuple[str, ...]:
    """Return one sentence about the records that each split leaves out, and one about records that were added."""
    notes = []
    for split, records in left_out.items():
        if len(records):
            plural = "s" if len(records) > 1 else ""
            notes.append(
                f"{split}: {len(records)} record{plural} left out, as a record of another split has the same signal "
                f"(such as ecg_id {name(records[0])})"
            )
    if added is not None and added.any():
        total = len(np.unique(record_ids[added]))
        used = {split: len(np.unique(record_ids[rows[split][added[rows[split]]]])) for split in ("val", "test")}
        unused = total - sum(used.values())
        counted = f"{total} record{'s were' if total > 1 else ' was'}"
        rest = f", {unused} left out (other folds, or known patients or signals)" if unused else ""
        notes.append(
            f"{counted} added since this run was trained: {used['val']} in val and {used['test']} in test are used"
            f"{rest}"
        )
    return tuple(notes)
