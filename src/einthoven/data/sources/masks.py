"""Masks of the waves as labels: for each sample of a record, whether it belongs to P, QRS or T."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.sources.labels import Labels
from einthoven.data.store.packed_store import Store
from einthoven.errors import UserError
from einthoven.functional.delineation import MASKS, mask_to_waves


def refuse_without_masks(source: Any) -> None:
    """Refuse a source that does not know the waves of its records.

    Raises
    ------
    UserError
        Names the option.
    """
    if not hasattr(source, "masks"):
        raise UserError(
            f"task=delineation: {type(source).__name__} has no masks of the waves; expected data=synthetic, whose "
            "generator knows them."
        )


def mask_labels(source: Any, store: Store) -> Labels:
    """Return the masks of all records of a store.

    Parameters
    ----------
    source : source of records
        Its method ``masks(table)`` returns the bits of each sample (n, samples), in the order of `MASK_BITS`.
    store : Store
        Its signals are parts of the records, from ``start_s`` on.

    Returns
    -------
    Labels
        The matrix is (n, 3, T), 1 where a sample belongs to the wave.
    """
    table = store.table
    bits_of_signal = cut_to_signals(source.masks(table)[:, None, :], store)
    return Labels(
        matrix=mask_to_waves(bits_of_signal[:, 0]).astype(np.uint8),
        classes=MASKS,
        ecg_ids=table["ecg_id"].to_numpy(np.int64),
        folds=table["strat_fold"].to_numpy(np.int64),
        patients=table["patient_id"].to_numpy(np.int64),
        dropped=0,
    )


def cut_to_signals(values: NDArray[np.integer[Any]], store: Store) -> NDArray[np.integer[Any]]:
    """Cut values along whole records (n, C, samples of a record) to the signals of a store (n, C, T).

    Zeros fill up a signal that is longer than its record.
    """
    samples = store.signals.shape[-1]
    first = np.rint(store.table["start_s"].to_numpy(np.float64) * store.fs).astype(np.int64)
    columns = first[:, None] + np.arange(samples)
    length = values.shape[2]
    index = np.minimum(columns, length - 1)[:, None, :]
    is_inside = (columns < length)[:, None, :]
    return np.take_along_axis(values, index, axis=2) * is_inside
