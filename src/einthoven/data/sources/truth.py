"""The exact truth of generated records as one array: masks of the waves, heart vector and conditions."""

from __future__ import annotations

from typing import Any

import numpy as np

from einthoven.data.sources.labels import Labels
from einthoven.data.sources.masks import cut_to_signals, mask_labels
from einthoven.data.store.packed_store import Store
from einthoven.errors import UserError
from einthoven.functional.truth import CONDITION_ROW, DIPOLE_ROWS, NOTHING, WAVE_ROWS


def refuse_without_truth(source: Any) -> None:
    """Refuse a source that does not know the masks and the heart vectors of its records.

    Raises
    ------
    UserError
        Names the option.
    """
    if not (hasattr(source, "masks") and hasattr(source, "dipoles")):
        raise UserError(
            f"task=generator: {type(source).__name__} does not know the waves and the heart vector of its records; "
            "expected data=synthetic, whose generator knows them."
        )


def truth_labels(source: Any, store: Store, conditions: str) -> Labels:
    """Return the exact truth of all records of a store.

    Parameters
    ----------
    source : source of records
        Its method ``masks(table)`` returns the bits of each sample, and ``dipoles(table)`` the heart vectors in µV.
    store : Store
        Its signals are parts of the records, from ``start_s`` on.
    conditions : str
        Label set of the conditions, such as ``all``.

    Returns
    -------
    Labels
        The matrix is int16 (n, 7, T): the masks, the heart vector in µV, and a row that begins with the conditions.
        The classes are the conditions.

    Raises
    ------
    UserError
        If a signal is too short to hold the conditions.
    """
    masks = mask_labels(source, store)
    labels: Labels = source.labels(
        store.table, conditions, keep_unlabelled=True, single_label=False, min_likelihood=0.0
    )
    samples = masks.matrix.shape[2]
    if samples < len(labels.classes):
        raise UserError(
            f"data.seconds: a record of {samples} samples is too short for task=generator with its "
            f"{len(labels.classes)} conditions; expected at least as many samples."
        )
    truth = np.full((len(masks.matrix), CONDITION_ROW + 1, samples), NOTHING, dtype=np.int16)
    truth[:, WAVE_ROWS] = masks.matrix
    truth[:, DIPOLE_ROWS] = cut_to_signals(source.dipoles(store.table), store)
    truth[:, CONDITION_ROW, : len(labels.classes)] = labels.matrix
    return Labels(
        matrix=truth,
        classes=labels.classes,
        ecg_ids=masks.ecg_ids,
        folds=masks.folds,
        patients=masks.patients,
        dropped=0,
        class_of=labels.class_of,
        notes=labels.notes,
    )
