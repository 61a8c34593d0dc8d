"""What the records of a run are, and one sentence about what is different in those that are there now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.sources.labels import Labels
from einthoven.data.store.digests import Digests, from_bytes, to_bytes
from einthoven.data.store.packed_store import Store

UNLABELLED = np.iinfo(np.int64).min
CLOSE = 1e-5  # relative: a quantity that is measured on another machine may differ in its last digits


@dataclass(frozen=True)
class DataIdentity:
    """The windows of a store, one row for each, whether or not they have a label of the task.

    Attributes
    ----------
    ecg_ids, record_ids : ndarray of int64, shape (n,)
        Number of each window, unique, and of its record.
    digests : ndarray of S16, shape (n,)
        Content of each signal (`einthoven.data.store.digests`).
    labels : ndarray of int64 or float32, shape (n,)
        A number for the set of classes that hold, or the quantity. `UNLABELLED` or NaN where the task has no use for
        the record.
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
    def of(cls, store: Store, labels: Labels, stored: NDArray[np.int64]) -> DataIdentity:
        """The identity of a store for one task; `stored` is the row of the store for each row of the labels."""
        table, known = store.table, label_numbers(labels)
        missing = UNLABELLED if known.dtype == np.int64 else np.nan
        numbers = np.full(len(table), missing, known.dtype)
        numbers[stored] = known
        return cls(
            ecg_ids=table["ecg_id"].to_numpy(np.int64),
            record_ids=table["record_id"].to_numpy(np.int64),
            digests=store.digests,
            labels=numbers,
            folds=table["strat_fold"].to_numpy(np.int64),
            patients=table["patient_id"].to_numpy(np.int64),
            classes=labels.classes,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All but the classes, as arrays that a file can hold."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _NUMBERS}
        return arrays | {"digests": to_bytes(self.digests)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], classes: Sequence[str]) -> DataIdentity:
        """The identity that a file holds.

        Raises
        ------
        KeyError, ValueError
            If an array is missing, or they do not go together.
        """
        digests = from_bytes(arrays["digests"])
        numbers = {name: arrays[name] for name in _NUMBERS}
        for name, array in numbers.items():
            is_number = array.dtype == np.int64 or (name == "labels" and array.dtype == np.float32)
            if array.shape != digests.shape or not is_number:
                raise ValueError(f"{name} of {array.dtype} {array.shape}, expected int64 {digests.shape}")
        return cls(digests=digests, classes=tuple(classes), **numbers)


_NUMBERS = ("ecg_ids", "record_ids", "labels", "folds", "patients")


def label_numbers(labels: Labels) -> NDArray[np.int64] | NDArray[np.float32]:
    """A number for the labels of each row: that of a set of classes, whatever other classes there are; or the quantity.

    The number of a set is the sum of one random number for each class, modulo 2^64: two sets differ in it.
    """
    if labels.matrix.dtype != np.uint8:
        return labels.matrix[:, 0].astype(np.float32)
    total = np.zeros(len(labels.matrix), np.uint64)
    for name, column in zip(labels.classes, labels.matrix.T, strict=True):
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        total += column.astype(np.uint64) * np.uint64(number)
    return total.view(np.int64)


@dataclass(frozen=True)
class Difference:
    """What is different in the records that are there now.

    Attributes
    ----------
    changes : tuple of str
        What has changed in records that were there before, in words.
    added : ndarray of bool, shape (n,)
        The windows of now that were not there before.
    added_records : int
    reordered : bool
        Whether the same windows stand in another order.
    """

    changes: tuple[str, ...]
    added: NDArray[np.bool_]
    added_records: int
    reordered: bool

    @property
    def any(self) -> bool:
        """Whether anything is different, be it that there is more."""
        return bool(self.changes) or self.added_records > 0 or self.reordered

    def __str__(self) -> str:
        """All of it in words, for the middle of a sentence."""
        parts = list(self.changes)
        if self.added_records:
            parts.append(f"{_counted(self.added_records)} new")
        if self.reordered and not parts:
            parts.append("the records stand in another order")
        return _joined(parts)


def compare(before: DataIdentity, now: DataIdentity) -> Difference:
    """Compare the records of a run with those that are there now.

    A window is the same if its signal is, whatever its number is now: a table to which rows were added may number its
    records anew. Patients are the same if the same windows belong to one patient.
    """
    row = _same_window(before, now)
    old = np.flatnonzero(row >= 0)
    new = row[old]
    lost = np.flatnonzero(row < 0)
    unmatched = np.ones(len(now.ecg_ids), bool)
    unmatched[new] = False

    changes: list[str] = []
    if before.classes != now.classes:
        changes.append(f"the classes were {' '.join(before.classes)} and are {' '.join(now.classes)}")
    # The same number with another signal is a record that has changed, as is one of which other windows are still the
    # same. The others are gone, or new.
    replaced = np.isin(before.ecg_ids[lost], now.ecg_ids[unmatched])
    shorter = np.isin(before.record_ids[lost], before.record_ids[old])
    longer = unmatched & np.isin(now.record_ids, now.record_ids[new])
    longer_before = old[np.isin(now.record_ids[new], now.record_ids[longer])]
    added = unmatched & ~longer & ~np.isin(now.ecg_ids, before.ecg_ids[lost[replaced]])
    for rows, words in (
        (np.concatenate([lost[replaced | shorter], longer_before]), "have another signal"),
        (lost[~replaced & ~shorter], "are missing"),
        (old[_differ(before.labels[old], now.labels[new])], "have other labels"),
        (old[before.folds[old] != now.folds[new]], "are in another fold"),
        (old[_regrouped(before.patients[old], now.patients[new])], "belong to another patient"),
    ):
        if len(rows):
            records = np.unique(before.record_ids[rows])
            changes.append(f"{_counted(len(records), words)} (such as ecg_id {records[0]})")
    return Difference(
        changes=tuple(changes),
        added=added,
        added_records=len(np.unique(now.record_ids[added])),
        reordered=not np.array_equal(new, np.arange(len(new))),
    )


def _same_window(before: DataIdentity, now: DataIdentity) -> NDArray[np.int64]:
    """Row of now for each row of before; -1 where its signal is no longer there."""
    row = np.full(len(before.ecg_ids), -1)
    if not len(now.ecg_ids):
        return row

    # First those that have kept their number.
    order = np.argsort(now.ecg_ids)
    place = np.searchsorted(now.ecg_ids[order], before.ecg_ids).clip(max=len(order) - 1)
    candidate = order[place]
    kept = (now.ecg_ids[candidate] == before.ecg_ids) & (now.digests[candidate] == before.digests)
    row[kept] = candidate[kept]

    # Then the others by their signal alone: of equal signals, the first with the first, and so on.
    left = np.flatnonzero(~kept)
    free = np.setdiff1d(np.arange(len(now.ecg_ids)), candidate[kept])
    _, codes = np.unique(np.concatenate([before.digests[left], now.digests[free]]), return_inverse=True)
    lost, found = _numbered(codes[: len(left)]), _numbered(codes[len(left) :])
    _, here, there = np.intersect1d(lost, found, assume_unique=True, return_indices=True)
    row[left[here]] = free[there]
    return row


def _numbered(codes: NDArray[np.intp]) -> NDArray[np.int64]:
    """A number for each element that is the same for the k-th occurrence of a code, in any array of less than 2^32."""
    order = np.argsort(codes, kind="stable")
    first = np.searchsorted(codes[order], codes[order], "left")
    occurrence = np.empty(len(codes), np.int64)
    occurrence[order] = np.arange(len(codes)) - first
    numbers: NDArray[np.int64] = codes.astype(np.int64) * 2**32 + occurrence
    return numbers


def _differ(before: NDArray[Any], now: NDArray[Any]) -> NDArray[np.bool_]:
    if before.dtype.kind != now.dtype.kind:
        return np.ones(len(before), bool)
    if before.dtype.kind == "f":
        different: NDArray[np.bool_] = ~np.isclose(before, now, rtol=CLOSE, atol=CLOSE, equal_nan=True)
    else:
        different = before != now
    return different


def _regrouped(before: NDArray[np.int64], now: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows no longer stand together with the same others."""
    # Where nothing has changed, each number of before goes with one number of now, and the other way round.
    pairs, pair = np.unique(np.stack([before, now], axis=1), axis=0, return_inverse=True)
    alone = np.ones(len(pairs), bool)
    for column in pairs.T:
        _, patient, count = np.unique(column, return_inverse=True, return_counts=True)
        alone &= count[patient] == 1
    regrouped: NDArray[np.bool_] = ~alone[pair.reshape(-1)]
    return regrouped


def _counted(count: int, words: str = "are") -> str:
    """``1 record has other labels``, ``2 records have other labels``."""
    if count == 1:
        verb, _, rest = words.partition(" ")
        words = " ".join(filter(None, ({"have": "has", "are": "is", "belong": "belongs"}[verb], rest)))
    return f"{count:,} record{'s' * (count != 1)} {words}"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1])] * (len(parts) > 1) + list(parts[-1:]))
