"""Quantities of records as targets of a regression: measured from the signals, or read from the table."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic
from einthoven.data.sources.labels import Labels, NoLabelsError
from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT, Store
from einthoven.data.store.packing import Progress
from einthoven.errors import UserError
from einthoven.files import BAD_ARRAY_HEADER
from einthoven.functional import (
    alignment,
    baseline,
    beats,
    conform,
    crossings,
    qrs_edges,
    qrs_end,
    representative_beat,
)
from einthoven.functional.statements import AXIS_STATEMENTS, RATE_STATEMENTS

if TYPE_CHECKING:
    import pandas as pd

Float = NDArray[np.float64]

BLOCK = 256  # records that are measured at once
OLDEST = 120.0  # years; PTB-XL has 300 for each patient above 89, whose age is hidden


def targets(store: Store, name: str, progress: Progress | None = None) -> Labels:
    """Return one quantity of each record of a store. Records without it are left out and counted.

    Parameters
    ----------
    store : Store
    name : str
        ``heart_rate`` (1/min), ``axis`` (degrees), or a column of the table. An `age` above 120 counts as unknown.
    progress : callable, optional
        Called with (records done, records in all) while signals are measured.

    Returns
    -------
    Labels
        `matrix` float32 (n, 1), `classes` the name.

    Raises
    ------
    UserError
        If there is no such column, if it does not contain numbers, or if a lead that is needed is missing.
    """
    values = measure(store, name, progress) if name in MEASURES else _column(store.table, name)
    keep = np.isfinite(values)
    if not keep.any():
        raise NoLabelsError(f"task.target={name}: none of the {len(values)} records has one.")
    table = store.table[keep]
    return Labels(
        matrix=values[keep, None].astype(np.float32),
        classes=(name,),
        ecg_ids=table["ecg_id"].to_numpy(np.int64),
        folds=table["strat_fold"].to_numpy(np.int64),
        patients=table["patient_id"].to_numpy(np.int64),
        dropped=int((~keep).sum()),
        class_of=dict.fromkeys(CHANGED_WITH.get(name, ()), name),
    )


def measure(store: Store, name: str, progress: Progress | None = None) -> Float:
    """Measure a quantity of each signal of a store (n,), NaN if that is not possible; save it in the cache.

    The name of the file depends on the records and on the code that measures.
    """
    modules = (alignment, baseline, beats, conform, crossings, qrs_edges, qrs_end, representative_beat)
    files = [Path(str(module.__file__)) for module in modules] + [Path(__file__)]
    code = b"".join(file.read_bytes() for file in files)
    digest = hashlib.sha256(store.fingerprint.encode() + code).hexdigest()[:16]
    file = store.path.parent.parent / "targets" / f"{name}-{digest}.npz"
    # numpy compares the checksum of a member of the archive when it reads it. A damaged file is measured again.
    with (
        contextlib.suppress(OSError, KeyError, EOFError, zipfile.BadZipFile, *BAD_ARRAY_HEADER),
        np.load(file) as archive,
    ):
        return np.asarray(archive["values"])
    n = len(store.table)
    values = np.empty(n)
    for first in range(0, n, BLOCK):
        rows = np.arange(first, min(first + BLOCK, n))
        signals = store.signals[rows].astype(np.float64) * MILLIVOLT_PER_COUNT
        values[rows] = MEASURES[name](signals, store.fs, store.leads)
        if progress is not None:
            progress(int(rows[-1]) + 1, n)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as partial:
        np.savez(partial, values=values)
    return values


def heart_rate(signals: Float, fs: float, leads: tuple[str, ...]) -> Float:
    """Return the heart rate in beats per minute of signals (n, L, T) in mV."""
    return beats.heart_rate(beats.detect_beats(signals, fs), fs)


def axis(signals: Float, fs: float, leads: tuple[str, ...]) -> Float:
    """Return the frontal QRS axis in degrees of signals (n, L, T) in mV."""
    for lead in ("I", "aVF"):
        if lead not in leads:
            raise UserError(f"task.target=axis: is measured from I and aVF; {lead} is not in data.leads.")
    beat = representative_beat.representative_beat(signals, beats.detect_beats(signals, fs), fs)
    area = qrs_edges.qrs_area(beat, fs)
    return beats.frontal_axis(area[:, leads.index("I")], area[:, leads.index("aVF")])


MEASURES: dict[str, Callable[[Float, float, tuple[str, ...]], Float]] = {"heart_rate": heart_rate, "axis": axis}
CHANGED_WITH = {  # an augmentation that changes these statements changes the quantity, too
    "heart_rate": RATE_STATEMENTS,
    "axis": AXIS_STATEMENTS,
}


def _column(table: pd.DataFrame, name: str) -> Float:
    """Return a column of numbers, NaN where a value is missing."""
    import pandas as pd

    numeric = [str(column) for column in table.columns if pd.api.types.is_numeric_dtype(table[column])]
    if name not in numeric:
        raise UserError(
            f"task.target={name}: expected {', '.join(MEASURES)}, or a column of numbers of these data: "
            f"{', '.join(numeric)}."
        )
    values = table[name].to_numpy(np.float64, copy=True)
    if name == "age":
        values[values > OLDEST] = np.nan
    return values
