"""The identity of the data of a run, and a comparison of two identities in one sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.record_names import NameRecord, number_only
from einthoven.data.sources.labels import Labels
from einthoven.data.store.digests import Digests, from_bytes, to_bytes
from einthoven.data.store.packed_store import Store

UNLABELLED = np.iinfo(np.int64).min
TOLERANCE = 1e-5  # relative and absolute: a quantity that another machine measures may differ in its last digits


@dataclass(frozen=True)
class DataIdentity:
    """The windows of a store, one row for each, with or without a label of the task.

    Attributes
    ----------
    ecg_ids, record_ids : ndarray of int64, shape (n,)
        Number of each window (unique), and number of its record.
    digests : ndarray of S16, shape (n,)
        Content digest of each signal (`einthoven.data.store.digests`).
    labels : ndarray of int64 or float32, shape (n,)
        A number that stands for the set of positive classes, or the quantity. `UNLABELLED` or NaN if the task does
        not use the record.
    folds, patients : ndarray of int64, shape (n,)
    classes : tuple of str
    """

    ecg_ids: NDArray[np.int64]
    record_ids: NDArray[np.int64]
    digests: Digests
    labels: NDArray[np.int64] | NDArray[np.float32]
    folds: NDArray[np.int64]
    patients: NDArray[np.int64]
    classes: tuple[str, ...]

    @classmethod
    def from_store(cls, store: Store, labels: Labels, stored: NDArray[np.int64]) -> DataIdentity:
        """Return the identity of a store for one task; `stored` is the row of the store for each row of the labels."""
        table = store.table
        numbers = _number_labels(labels)
        missing = UNLABELLED if numbers.dtype == np.int64 else np.nan
        numbers_of_all = np.full(len(table), missing, numbers.dtype)
        numbers_of_all[stored] = numbers
        return cls(
            ecg_ids=table["ecg_id"].to_numpy(np.int64),
            record_ids=table["record_id"].to_numpy(np.int64),
            digests=store.digests,
            labels=numbers_of_all,
            folds=table["strat_fold"].to_numpy(np.int64),
            patients=table["patient_id"].to_numpy(np.int64),
            classes=labels.classes,
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything but the classes as arrays that a file can hold."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _NUMBERS}
        return arrays | {"digests": to_bytes(self.digests)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> DataIdentity:
        """Return the identity that a file holds.

        Raises
        ------
        KeyError, ValueError
            If an array is missing, or if the arrays do not fit together.
        """
        digests = from_bytes(arrays["digests"])
        numbers = {name: arrays[name] for name in _NUMBERS}
        for name, array in numbers.items():
            is_number = array.dtype == np.int64 or (name == "labels" and array.dtype == np.float32)
            if array.shape != digests.shape or not is_number:
                raise ValueError(f"{name} of {array.dtype} {array.shape}, expected int64 {digests.shape}")
        return cls(digests=digests, classes=tuple(classes), **numbers)


_NUMBERS = ("ecg_ids", "record_ids", "labels", "folds", "patients")


def _number_labels(labels: Labels) -> NDArray[np.int64] | NDArray[np.float32]:
    """Return one number for the labels of each row: for the set of positive classes, for the masks, or the quantity.

    The number of a set is the sum of one random number per class, modulo 2^64. Different sets have different numbers,
    and the number does not depend on which other classes exist.
    """
    if labels.matrix.ndim == 3:
        digests = [hashlib.sha256(masks.tobytes()).digest()[:8] for masks in labels.matrix]
        return np.frombuffer(b"".join(digests), np.int64)
    if labels.matrix.dtype != np.uint8:
        return labels.matrix[:, 0].astype(np.float32)
    total = np.zeros(len(labels.matrix), np.uint64)
    for name, column in zip(labels.classes, labels.matrix.T, strict=True):
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        total += column.astype(np.uint64) * np.uint64(number)
    return total.view(np.int64)


@dataclass(frozen=True)
class Difference:
    """The difference between the present data and the data of a run.

    Attributes
    ----------
    changes : tuple of str
        Changes of records that the run already had, in words.
    added : ndarray of bool, shape (n,)
        Present windows that the run did not have.
    added_records : int
        Number of added records.
    is_reordered : bool
        Whether the same windows have another order.
    """

    changes: tuple[str, ...]
    added: NDArray[np.bool_]
    added_records: int
    is_reordered: bool

    @property
    def is_different(self) -> bool:
        """Whether anything differs. Added records count, too."""
        return bool(self.changes) or self.added_records > 0 or self.is_reordered

    def __str__(self) -> str:
        """Return all differences in words, for the middle of a sentence."""
        parts = list(self.changes)
        if self.added_records:
            parts.append(_describe_count(self.added_records, "are new"))
        if self.is_reordered and not parts:
            parts.append("the records stand in another order")
        if len(parts) > 1:
            parts = [", ".join(parts[:-1]), parts[-1]]
        return " and ".join(parts)


def compare(before: DataIdentity, now: DataIdentity, name: NameRecord = number_only) -> Difference:
    """Compare the data of a run with the present data.

    A window is the same if its signal is the same, whatever its number is: a table that gets new rows may number its
    records again. Patients (and records) are the same if the same windows belong to one patient (to one record).
    """
    # Rows of the windows that exist in both: `old` counts in `before`, `new` in `now`.
    row = _match_windows(before, now)
    old = np.flatnonzero(row >= 0)
    new = row[old]
    lost = np.flatnonzero(row < 0)
    is_unmatched = np.ones(len(now.ecg_ids), bool)
    is_unmatched[new] = False

    # A record has changed if its number now has another signal, or if only some of its windows are still the same.
    # The other lost windows are missing, and the other unmatched windows are added.
    is_replaced = np.isin(before.ecg_ids[lost], now.ecg_ids[is_unmatched])
    is_shorter = np.isin(before.record_ids[lost], before.record_ids[old])
    is_longer = is_unmatched & np.isin(now.record_ids, now.record_ids[new])
    longer_before = old[np.isin(now.record_ids[new], now.record_ids[is_longer])]
    is_added = is_unmatched & ~is_longer & ~np.isin(now.ecg_ids, before.ecg_ids[lost[is_replaced]])

    rows_with_other_signal = np.concatenate([lost[is_replaced | is_shorter], longer_before])
    rows_in_other_records = old[_are_regrouped(before.record_ids[old], now.record_ids[new])]
    rows_with_other_labels = old[_are_different(before.labels[old], now.labels[new])]
    rows_of_other_patients = old[_are_regrouped(before.patients[old], now.patients[new])]
    changed_rows = (
        (rows_with_other_signal, "have another signal"),
        (lost[~is_replaced & ~is_shorter], "are missing"),
        (rows_in_other_records, "have other windows"),
        (rows_with_other_labels, "have other labels"),
        (old[before.folds[old] != now.folds[new]], "are in another fold"),
        (rows_of_other_patients, "belong to another patient"),
    )
    changes: list[str] = []
    if before.classes != now.classes:
        changes.append(f"the classes were {' '.join(before.classes)} and are {' '.join(now.classes)}")
    for rows, words in changed_rows:
        if len(rows):
            records = np.unique(before.record_ids[rows])
            changes.append(f"{_describe_count(len(records), words)} (such as ecg_id {name(records[0])})")
    return Difference(
        changes=tuple(changes),
        added=is_added,
        added_records=len(np.unique(now.record_ids[is_added])),
        is_reordered=not np.array_equal(new, np.arange(len(new))),
    )


def _match_windows(before: DataIdentity, now: DataIdentity) -> NDArray[np.int64]:
    """Return the row in `now` of each row of `before`; -1 if its signal no longer exists."""
    row = np.full(len(before.ecg_ids), -1)
    if not len(now.ecg_ids):
        return row

    # First match the windows that have the same number and the same signal.
    order = np.argsort(now.ecg_ids)
    position = np.searchsorted(now.ecg_ids[order], before.ecg_ids).clip(max=len(order) - 1)
    candidate = order[position]
    is_same = (now.ecg_ids[candidate] == before.ecg_ids) & (now.digests[candidate] == before.digests)
    row[is_same] = candidate[is_same]

    # Then match the others by their signal alone. Of equal signals, the first matches the first, and so on.
    unmatched_before = np.flatnonzero(~is_same)
    unmatched_now = np.setdiff1d(np.arange(len(now.ecg_ids)), candidate[is_same])
    digests = np.concatenate([before.digests[unmatched_before], now.digests[unmatched_now]])
    _, codes = np.unique(digests, return_inverse=True)
    keys_before = _number_occurrences(codes[: len(unmatched_before)])
    keys_now = _number_occurrences(codes[len(unmatched_before) :])
    _, index_before, index_now = np.intersect1d(keys_before, keys_now, assume_unique=True, return_indices=True)
    row[unmatched_before[index_before]] = unmatched_now[index_now]
    return row


def _number_occurrences(codes: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return one number per element; the k-th occurrence of a code has the same number in each array (n < 2^32)."""
    order = np.argsort(codes, kind="stable")
    first = np.searchsorted(codes[order], codes[order], "left")
    occurrence = np.empty(len(codes), np.int64)
    occurrence[order] = np.arange(len(codes)) - first
    return codes.astype(np.int64) * 2**32 + occurrence


def _are_different(before: NDArray[Any], now: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which labels differ. Labels of two kinds of task always differ."""
    if before.dtype.kind != now.dtype.kind:
        return np.ones(len(before), bool)
    if before.dtype.kind == "f":
        different: NDArray[np.bool_] = ~np.isclose(before, now, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    else:
        different = before != now
    return different


def _are_regrouped(before: NDArray[np.int64], now: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows are no longer grouped with the same other rows; each number stands for one group."""
    # If nothing has changed, each old number goes with exactly one new number, and the other way round.
    pairs, pair = np.unique(np.stack([before, now], axis=1), axis=0, return_inverse=True)
    is_unique = np.ones(len(pairs), bool)
    for column in pairs.T:
        _, group, count = np.unique(column, return_inverse=True, return_counts=True)
        is_unique &= count[group] == 1
    return ~is_unique[pair.reshape(-1)]


def _describe_count(count: int, words: str) -> str:
    """Return ``1 record has other labels`` or ``2 records have other labels``."""
    if count == 1:
        verb, _, rest = words.partition(" ")
        singular = {"have": "has", "are": "is", "belong": "belongs"}[verb]
        return f"1 record {singular} {rest}"
    return f"{count:,} records {words}"
