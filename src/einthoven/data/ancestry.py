"""The signals that a model has seen. They must not be among the signals that the model is evaluated on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from einthoven.data.record_names import NameRecord, number_only
from einthoven.data.store.digests import Digests, from_bytes, to_bytes
from einthoven.errors import UserError

NONE: Digests = np.empty(0, "S16")
"""A list of no digests."""

LISTS = ("trained", "fitted", "first_seconds", "generator")
"""Names of the lists of an ancestry."""

FIRST_LISTS = LISTS[:2]
"""Names of the lists that models of earlier versions have, too."""


@dataclass(frozen=True)
class Ancestry:
    """Content digests of the signals that a model has seen (`data.store.digests`); blank signals are not listed.

    Each list is sorted and unique. Models of earlier versions have only the first two lists.

    Attributes
    ----------
    trained : ndarray of S16
        Training windows of the model, and of each model that it was made from.
    fitted : ndarray of S16
        Windows that the calibration and the thresholds were fitted on.
    first_seconds : ndarray of S16
        First second of each training record. They are the same if the records are cut to another length.
    generator : ndarray of S16
        First second of each real record that the generator of the training records was fitted to, without its labels.
    """

    trained: Digests = field(default_factory=NONE.copy)
    fitted: Digests = field(default_factory=NONE.copy)
    first_seconds: Digests = field(default_factory=NONE.copy)
    generator: Digests = field(default_factory=NONE.copy)

    @classmethod
    def trained_on(cls, windows: Digests, first_seconds: Digests = NONE, generator: Digests = NONE) -> Ancestry:
        """Return the ancestry of a model that was trained on these windows and made from no other model."""
        return cls(
            trained=_list_unique([windows]),
            first_seconds=_list_unique([first_seconds]),
            generator=_list_unique([generator]),
        )

    def fitted_on(self, windows: Digests) -> Ancestry:
        """Return the ancestry of the same model after its calibration and thresholds were fitted on these windows."""
        return replace(self, fitted=_list_unique([windows]))

    def merged(self, *others: Ancestry) -> Ancestry:
        """Add the training records of other models, and return the ancestry of a model that was made from them too."""
        everyone = (self, *others)
        return replace(
            self,
            trained=_list_unique(other.trained for other in everyone),
            first_seconds=_list_unique(other.first_seconds for other in everyone),
            generator=_list_unique(other.generator for other in everyone),
        )

    def without(self, other: Ancestry) -> Ancestry:
        """Return the ancestry without the training windows of another model."""
        return replace(self, trained=np.setdiff1d(self.trained, other.trained))

    def in_training(self, windows: Digests, first_seconds: Digests | None = None) -> NDArray[np.bool_]:
        """Return a mask that is true for the signals that the model was trained on.

        Parameters
        ----------
        windows : ndarray of S16, shape (n,)
            Digests of whole windows.
        first_seconds : ndarray of S16, shape (n,), optional
            Digests of the first second of the same signals. With them, a record that was cut to another length for the
            training is recognized, too.
        """
        is_seen = _are_listed(windows, self.trained)
        if first_seconds is not None:
            is_seen = is_seen | _are_listed(first_seconds, self.first_seconds)
        return is_seen

    def begins_in_training(self, first_seconds: Digests) -> NDArray[np.bool_]:
        """Return a mask that is true for the first seconds of training records."""
        return _are_listed(first_seconds, self.first_seconds)

    def in_fitting(self, windows: Digests) -> NDArray[np.bool_]:
        """Return a mask that is true for the windows that the calibration and the thresholds were fitted on."""
        return _are_listed(windows, self.fitted)

    def in_generator(self, first_seconds: Digests) -> NDArray[np.bool_]:
        """Return a mask that is true for the records that the generator of the training records was fitted to."""
        return _are_listed(first_seconds, self.generator)

    def to_arrays(self) -> dict[str, NDArray[np.uint8]]:
        """Return the lists of digests as arrays of bytes (n, 16), for a file."""
        return {name: to_bytes(getattr(self, name)) for name in LISTS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.uint8]]) -> Ancestry:
        """Return the ancestry from the arrays of a file; the inverse of `to_arrays`.

        Raises
        ------
        KeyError, ValueError
            If one of the first two lists is missing, or a list is not an array of bytes (n, 16).
        """
        names = [name for name in LISTS if name in FIRST_LISTS or name in arrays]
        return cls(**{name: _list_unique([from_bytes(arrays[name])]) for name in names})


def _are_listed(digests: Digests, sorted_list: Digests) -> NDArray[np.bool_]:
    """Return a mask that is true for the digests that are in a sorted list.

    `numpy.isin` would go through the whole list, for each file of a prediction again.
    """
    if not len(sorted_list):
        return np.zeros(np.shape(digests), dtype=bool)
    places = np.searchsorted(sorted_list, digests).clip(max=len(sorted_list) - 1)
    return sorted_list[places] == digests


def _list_unique(parts: Iterable[Digests]) -> Digests:
    """Return the different digests of all parts, sorted. A blank window has an empty digest, which is left out."""
    # Parts that are sorted already take little time: the stable sort merges them.
    ordered = np.sort(np.concatenate([NONE, *parts]), kind="stable")
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_first & (ordered != b"")]


def remove_used_records(
    rows: Mapping[str, NDArray[np.int64]], digests: Digests, records: NDArray[np.int64], ancestry: Ancestry
) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """Remove each record from the validation and test split whose signal was used before.

    A validation record must not be a training record. A test record must not be a training or validation record. Two
    records are the same if their signals are equal, even if their record numbers differ. A record can have several
    rows, one for each of its windows. If the signal of one row was used before, the whole record is removed.

    Parameters
    ----------
    rows : mapping of "train", "val", "test" to ndarray of int64
        The rows of each split.
    digests, records : ndarray, shape (n,)
        Content digest and record number of each row of the store.
    ancestry : Ancestry
        Signals that earlier trainings of the model used.

    Returns
    -------
    rows : dict of str to ndarray of int64
        The remaining rows of each split.
    removed : dict of str to ndarray of int64
        Numbers of the removed records of "val" and "test".
    """
    used_before = ancestry.merged(Ancestry.trained_on(digests[rows["train"]]))
    remaining = {"train": rows["train"]}
    removed = {}
    for split in ("val", "test"):
        split_rows = rows[split]
        split_records = records[split_rows]
        is_used_row = used_before.in_training(digests[split_rows])
        removed[split] = np.unique(split_records[is_used_row])
        remaining[split] = split_rows[~np.isin(split_records, removed[split])]
        # A validation record must not be in the test split, so it counts as used before the test split is checked.
        used_before = used_before.merged(Ancestry.trained_on(digests[remaining[split]]))
    return remaining, removed


def refuse_seen_records(
    rows: Mapping[str, NDArray[np.int64]],
    digests: Digests,
    first_seconds: Digests,
    records: NDArray[np.int64],
    ancestry: Ancestry,
    source: str,
    name: NameRecord = number_only,
) -> None:
    """Refuse records that are to be judged, if a model that a run is made from was trained on them.

    Parameters
    ----------
    rows : mapping of str to ndarray of int64
        Rows of each split.
    digests, records
        As in `remove_used_records`.
    first_seconds : ndarray, shape (n,)
        Digest of the first second of each row of the store.
    ancestry : Ancestry
        Signals that the model saw.
    source : str
        The option that named the model.
    name : callable
        As in `data.record_names`.

    Raises
    ------
    UserError
        Names the split and a record.
    """
    for split, split_rows in rows.items():
        is_seen = ancestry.in_training(digests[split_rows], first_seconds[split_rows])
        if is_seen.any():
            seen_records = np.unique(records[split_rows][is_seen])
            raise UserError(
                f"{source}: was trained on {len(seen_records)} of the records of {split}, such as ecg_id "
                f"{name(seen_records[0])}; expected other folds, or a model that has not seen these records."
            )


def generator_notes(
    rows: Mapping[str, NDArray[np.int64]],
    first_seconds: Digests,
    records: NDArray[np.int64],
    ancestry: Ancestry,
    source: str,
    name: NameRecord = number_only,
) -> tuple[str, ...]:
    """Return one sentence for each split with records that the generator of a model was fitted to.

    The fit has read moments of their signals, and no labels. So they are not refused.

    Parameters
    ----------
    rows, first_seconds, records, ancestry, source, name
        As in `refuse_seen_records`.
    """
    notes = []
    for split, split_rows in rows.items():
        fitted_records = np.unique(records[split_rows][ancestry.in_generator(first_seconds[split_rows])])
        if len(fitted_records):
            notes.append(
                f"{source}: the generator of its training records was fitted to the signals, and not to the labels, of "
                f"{len(fitted_records)} of the records of {split}, such as ecg_id {name(fitted_records[0])}"
            )
    return tuple(notes)
