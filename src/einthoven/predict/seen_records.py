"""Whether the models of a bundle have seen a record before they answer about it."""

from __future__ import annotations

from collections.abc import Sequence

from einthoven.data.ancestry import Ancestry
from einthoven.predict.signal import Prepared


def is_in_training(record: Prepared, ancestries: Sequence[Ancestry]) -> bool | None:
    """Return whether a model was trained on a record. None if no bundle lists the records of its training."""
    if not ancestries:
        return None
    for ancestry in ancestries:
        is_seen_whole = ancestry.in_training(record.digests).any()
        # The record may have been cut to another length for the training.
        is_seen_cut = ancestry.begins_in_training(record.first_seconds).any()
        if is_seen_whole or is_seen_cut:
            return True
    return False


def seen_cautions(record: Prepared, ancestries: Sequence[Ancestry], is_trained_on: bool | None) -> list[str]:
    """Return a caution about the use of a record in training, in calibration or for the generator; none if it was new.

    Parameters
    ----------
    record : Prepared
    ancestries : sequence of Ancestry
        The records that each model has seen.
    is_trained_on : bool or None
        The answer of `is_in_training`.
    """
    if is_trained_on:
        return ["this record was in the training data"]
    if any(ancestry.in_fitting(record.digests).any() for ancestry in ancestries):
        return ["the calibration was fitted on this record"]
    if any(ancestry.in_generator(record.first_seconds).any() for ancestry in ancestries):
        return ["the generator of the training records was fitted to this record, without its labels"]
    return []
