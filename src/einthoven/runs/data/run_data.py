"""The data of a run: its records, labelled, split, and on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.contracts import Predictions
from einthoven.data.ancestry import Ancestry, generator_notes, refuse_seen_records
from einthoven.data.fitted_on import fitted_records, records_of_generator
from einthoven.data.identity import DataIdentity
from einthoven.data.record_names import names_in
from einthoven.data.sources.labels import Labels
from einthoven.data.sources.statement_targets import StatementTargets
from einthoven.data.store.digests import Digests
from einthoven.data.store.packed_store import Store
from einthoven.data.store.splits import Split
from einthoven.runs.config.options import logged_options, plain_options
from einthoven.runs.data.measured_signals import MeasuredSignals, measure_signals
from einthoven.terminal.display import say

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pandas import DataFrame


@dataclass(frozen=True)
class Data:
    """The records of a run.

    A source may cut a long record into parts. Each part is a row of the store, of the labels and of a split. Methods
    that return values of records list the records in the order of their first rows.
    """

    store: Store
    labels: Labels
    rows: Mapping[str, NDArray[np.int64]]
    """Rows of `labels` that belong to each split."""
    store_rows: NDArray[np.int64]
    """Row of the store for each row of `labels`."""
    splits: Mapping[str, Split]
    """Signals and labels on the device. A split without records is missing."""
    identity: DataIdentity
    """Of all rows of the store."""
    notes: tuple[str, ...] = ()
    """Sentences about rows that were left out of the splits or added to them."""
    targets: StatementTargets | None = None
    """What the network learns, if it learns other labels than `labels`. Then the labels of a split have the columns of
    `labels` first, and those of `targets` after them."""

    @property
    def name(self) -> str:
        """Name of the source: that of the store, without the hash at its end."""
        return self.store.path.name.rsplit("-", 1)[0]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs of a network: the targets, which are the classes by default."""
        return self.labels.classes if self.targets is None else self.targets.names

    @cached_property
    def measured(self) -> MeasuredSignals:
        """What one pass over the signals of all splits measures."""
        digests = {split: self.digests(split) for split in self.splits}
        return measure_signals(self.splits, digests, self.store.path.parent.parent)

    def digests(self, split: str) -> Digests:
        """Return the content digest of each row of a split."""
        return self.identity.digests[self.store_rows[self.rows[split]]]

    def first_seconds(self, split: str) -> Digests:
        """Return the content digest of the first second of each record, for each row of a split."""
        return self.store.first_seconds[self.store_rows[self.rows[split]]]

    def row_origins(self, split: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the record of each row of a split, and where the row begins in its record, in seconds."""
        table = self.store.table.iloc[self.store_rows[self.rows[split]]]
        return table["record_id"].to_numpy(np.int64), table["start_s"].to_numpy(np.float64)

    def patients(self, split: str) -> NDArray[np.int64]:
        """Return the patient of each record of a split."""
        return self.labels.patients[self._first_rows(split)]

    def record_labels(self, split: str) -> NDArray[Any]:
        """Return the labels of each record of a split."""
        return self.labels.matrix[self._first_rows(split)]

    def table(self, split: str) -> DataFrame:
        """Return the rows of the source's table, one for each record of a split."""
        return self.store.table.iloc[self.store_rows[self._first_rows(split)]]

    def by_record(self, split: str, predictions: Predictions, rule: str) -> Predictions:
        """Turn predictions of the rows of a split into the ``mean`` or ``max`` of the rows of each record."""
        first_rows, record_of_row = group_rows(self.row_origins(split)[0])
        if len(first_rows) == len(record_of_row):
            return predictions
        # Labels are the same in all rows of a record. Quantities may differ, so that their mean is taken.
        y = aggregate_rows(predictions.y, record_of_row, "mean")
        return Predictions(y, aggregate_rows(predictions.p, record_of_row, rule))

    def with_training_columns(self, values: NDArray[np.float64]) -> Data:
        """Return the data with further columns (n, C) behind the labels of the training split."""
        train = self.splits["train"]
        columns = torch.from_numpy(values.astype(np.float32)).to(train.labels.device)
        labels = torch.cat([train.labels, columns], dim=1)
        return replace(self, splits={**self.splits, "train": replace(train, labels=labels)})

    def refuse_seen(self, names: Mapping[str, str], ancestry: Ancestry | None, source: str) -> None:
        """Refuse a model that was trained on records of some splits. A model that lists no records gets a note.

        `names` maps what messages call the splits to the splits, and `source` is the option that named the model.
        """
        if ancestry is None:
            judged = " or ".join(names)
            say(
                f"{source}: does not list its training records. So it is not known whether it was trained on a record "
                f"of {judged}."
            )
            return
        rows = {name: self.rows[split] for name, split in names.items()}
        record_ids = self.identity.record_ids[self.store_rows]
        digests = self.identity.digests[self.store_rows]
        first_seconds = self.store.first_seconds[self.store_rows]
        name = names_in(self.store.table)
        refuse_seen_records(rows, digests, first_seconds, record_ids, ancestry, source, name)
        for note in generator_notes(rows, first_seconds, record_ids, ancestry, source, name):
            say(f"{note}.")

    def _first_rows(self, split: str) -> NDArray[np.int64]:
        """Return the row of `labels` where each record of a split begins."""
        first_rows, _ = group_rows(self.row_origins(split)[0])
        return self.rows[split][first_rows]


def training_ancestry(data: Data, config: DictConfig) -> Ancestry:
    """Return the ancestry of a model that is trained on the training records of a run, and made from no other model."""
    # The configuration of a run on a packed store does not name the source of the records, but the store does.
    stores = [data.store, *(store for store, _ in data.store.parts)]
    is_generated = any(store.origin is not None and store.origin.is_generated for store in stores)
    options = logged_options(plain_options(config))
    generator = records_of_generator() if is_generated else fitted_records(options)
    return Ancestry.trained_on(data.digests("train"), data.first_seconds("train"), generator)


def group_rows(record_ids: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group rows by their record: return the first row of each record, and the place in them for each row."""
    _, first_rows, numbers = np.unique(record_ids, return_index=True, return_inverse=True)
    order = np.argsort(first_rows)
    return first_rows[order], np.argsort(order)[numbers]


def aggregate_rows(values: NDArray[np.float64], record_of_row: NDArray[np.intp], rule: str) -> NDArray[np.float64]:
    """Return the mean or the max (of probabilities) over the rows of each record: (rows, K) -> (records, K)."""
    if rule == "max":
        largest = np.zeros((record_of_row.max(initial=-1) + 1, values.shape[1]))
        np.maximum.at(largest, record_of_row, values)
        return largest
    counts = np.bincount(record_of_row)
    sums = np.zeros((len(counts), values.shape[1]))
    # There may be no column: records of a task without labels.
    for k, column in enumerate(values.T):
        sums[:, k] = np.bincount(record_of_row, column)
    return sums / counts[:, None]
