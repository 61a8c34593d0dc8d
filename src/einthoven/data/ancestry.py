"""Which signals a model has seen: what must not be among those that it is judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from einthoven.data.store.digests import Digests, from_bytes, to_bytes

NONE: Digests = np.empty(0, "S16")


@dataclass(frozen=True)
class Ancestry:
    """Content digests of the windows that a model has seen (`data.store.digests`); blank windows are not listed.

    Attributes
    ----------
    trained : ndarray of S16
        Windows that it was trained on, also through the models that it was made from; sorted, each once.
    fitted : ndarray of S16
        Windows that its calibration and thresholds were fitted on.
    """

    trained: Digests = field(default_factory=NONE.copy)
    fitted: Digests = field(default_factory=NONE.copy)

    @classmethod
    def of(cls, trained: Digests) -> Ancestry:
        """The ancestry of a model that was trained on these windows, and made from no other."""
        return cls(trained=_listed([trained]))

    def fitted_on(self, windows: Digests) -> Ancestry:
        """The same model, its calibration and thresholds fitted on these windows."""
        return replace(self, fitted=_listed([windows]))

    def joined(self, *others: Ancestry) -> Ancestry:
        """The ancestry of a model that was made from others, too: all that they were trained on."""
        return replace(self, trained=_listed([self.trained, *(other.trained for other in others)]))

    def in_training(self, windows: Digests) -> NDArray[np.bool_]:
        """Which of some windows the model was trained on."""
        return np.isin(windows, self.trained)

    def in_fitting(self, windows: Digests) -> NDArray[np.bool_]:
        """On which of some windows its calibration was fitted."""
        return np.isin(windows, self.fitted)

    def arrays(self) -> dict[str, NDArray[np.uint8]]:
        """Both lists as bytes (n, 16), the form in which files hold them."""
        return {"trained": to_bytes(self.trained), "fitted": to_bytes(self.fitted)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.uint8]]) -> Ancestry:
        """The ancestry that a file holds.

        Raises
        ------
        KeyError, ValueError
            If a list is missing, or of another form.
        """
        return cls(*(_listed([from_bytes(arrays[name])]) for name in ("trained", "fitted")))


def _listed(parts: Iterable[Digests]) -> Digests:
    """Digests in order, each once, without that of blank windows."""
    digests = np.unique(np.concatenate([NONE, *parts]))
    named: Digests = digests[digests != b""]
    return named


def apart(
    rows: Mapping[str, NDArray[np.int64]], digests: Digests, records: NDArray[np.int64], ancestry: Ancestry
) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """Leave out of validation and test what has the signal of a record that is used before.

    A test record may not have been trained on, nor be a validation record, under whatever number. One window of a
    record is enough to leave out all of it.

    Parameters
    ----------
    rows : mapping of "train", "val", "test" to ndarray of int64
    digests, records : ndarray, shape (n,)
        Content and record of each row.
    ancestry : Ancestry
        What the model has seen before these training rows.

    Returns
    -------
    rows : dict of str to ndarray of int64
    left_out : dict of str to ndarray of int64
        Records that were left out of each split.
    """
    used = ancestry.joined(Ancestry.of(digests[rows["train"]]))
    remaining = {"train": rows["train"]}
    left_out = {}
    for split in ("val", "test"):
        own = rows[split]
        left_out[split] = np.unique(records[own][used.in_training(digests[own])])
        remaining[split] = own[~np.isin(records[own], left_out[split])]
        used = used.joined(Ancestry.of(digests[remaining[split]]))
    return remaining, left_out
