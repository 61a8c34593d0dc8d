"""From a record to the windows that a model reads, or a sentence that says what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.ancestry import NONE
from einthoven.data.formats.reading import read_microvolts, read_record
from einthoven.data.formats.record import Record
from einthoven.data.store.digests import Digests, digest
from einthoven.errors import UserError
from einthoven.functional.conform import cut, resample, rounded, window_starts

SLOWEST = 0.9  # of the model's sampling frequency: below it, what the model looks at is not in the file
SHORTEST = 0.5  # of a window, where the model has been trained on padded records
FLOAT32 = 2.0**-23  # relative error of an amplitude in mV, at most

Cut = tuple[str, float | None]
"""How a store cuts longer records: rule and stride in seconds, as in `einthoven.functional.conform.cut`."""


@dataclass(frozen=True)
class Reads:
    """What a model reads.

    Attributes
    ----------
    leads : tuple of str
    fs : float
        Hz.
    seconds : float
        Length of a record.
    pads : bool
        Whether it was trained on shorter records with 0 mV after their end.
    window, stride : int
        Samples that the classifier sees at once, and from one such window to the next.
    aggregate : str
        ``mean`` or ``max`` of the windows' probabilities.
    """

    leads: tuple[str, ...]
    fs: float
    seconds: float
    pads: bool
    window: int
    stride: int
    aggregate: str

    @property
    def samples(self) -> int:
        """Samples of a record."""
        return round(self.seconds * self.fs)


@dataclass(frozen=True)
class Prepared:
    """One record as a model reads it.

    Attributes
    ----------
    source : str
        Its name.
    signal : ndarray of int16, shape (W, L, T)
        µV, as in the store that the model was trained from.
    start_s : ndarray of float64, shape (W,)
        Where each begins in the record, in seconds.
    cautions : tuple of str
        What was done to make it fit.
    digests : ndarray of S16
        Content of its windows as a store would cut them (`einthoven.data.store.digests`).
    """

    source: str
    signal: NDArray[np.int16]
    start_s: NDArray[np.float64]
    cautions: tuple[str, ...] = ()
    digests: Digests = field(default_factory=NONE.copy)


def read_prepared(
    file: str | Path, reads: Reads, stride_s: float | None = None, cuts: Sequence[Cut] = (), **reading: Any
) -> tuple[Record, Prepared]:
    """Read a file, and prepare its record; parameters as in `prepare` and `einthoven.data.read_record`.

    Raises
    ------
    UserError
        As they do.
    """
    record = read_record(file, want=reads.leads, **reading)

    def exact() -> NDArray[np.int16]:
        return read_microvolts(file, reads.leads, **reading)[0]

    return record, prepare(record, reads, stride_s, cuts, exact)


def prepare(
    record: Record,
    reads: Reads,
    stride_s: float | None = None,
    cuts: Sequence[Cut] = (),
    exact: Callable[[], NDArray[np.int16]] | None = None,
) -> Prepared:
    """Bring a record to the rate, leads and length that a model reads; a longer one becomes several windows.

    Parameters
    ----------
    record : Record
        In mV, with the leads that the model reads, in any order, and perhaps others.
    reads : Reads
    stride_s : float, optional
        Seconds between the windows of a longer record; by default they touch, and the last ends where the record does.
    cuts : sequence of (str, float or None)
        How the model's store cut longer records, for the digests; empty: none are made.
    exact : callable, optional
        Reads the record in µV as a store does. It is called where the mV of the record do not tell to which µV an
        amplitude is rounded.

    Raises
    ------
    UserError
        If the record lacks a lead, is too short, or was sampled too slowly.
    """
    name = record.source
    rows = _rows(record, reads)
    if record.fs < SLOWEST * reads.fs:
        raise UserError(
            f"{name}: sampled at {record.fs:g} Hz, so that it holds nothing above {record.fs / 2:g} Hz; this model "
            f"reads {reads.fs:g} Hz."
        )
    seconds = record.signal.shape[1] / record.fs
    least = reads.seconds * (SHORTEST if reads.pads else 1.0)
    if seconds < least - 1.5 / reads.fs:  # a sample less comes of resampling
        needed = "at least half of that" if reads.pads else "all of them"
        raise UserError(f"{name}: {seconds:.4g} s found; this model reads {reads.seconds:g} s, {needed}.")
    signal = resample(record.signal[rows], record.fs, reads.fs)
    microvolts = signal.astype(np.float64) * 1000.0
    counts, invalid, clipped = rounded(microvolts)
    versions = [counts]
    # A record that is resampled is resampled in mV in a store, too.
    if exact is not None and record.fs == reads.fs and _is_ambiguous(microvolts):
        counts = exact()
        versions.append(counts)
    windows = cut(counts, reads.fs, reads.seconds, long="slide", short="pad", stride=stride_s, source=name)  # type: ignore[arg-type]
    cautions = []
    if reads.seconds - seconds > 1.5 / reads.fs:
        cautions.append(f"{seconds:.4g} s long: the {reads.seconds:g} s that the model reads end in 0 mV")
    if invalid.any():
        gaps = " ".join(lead for lead, row in zip(reads.leads, invalid, strict=True) if row.any())
        cautions.append(f"{int(invalid.sum())} samples of {gaps} are invalid: the model reads 0 mV there")
    if clipped.any():
        cautions.append(f"{int(clipped.sum())} samples beyond 32.767 mV, cut off there")
    found = {named for version in versions for named in _digests(version, reads, cuts)}
    digests: Digests = np.array(sorted(found), "S16")
    signal_of_windows: NDArray[np.int16] = windows.signal  # type: ignore[assignment]
    return Prepared(name, signal_of_windows, windows.start_s, tuple(cautions), digests)


def _is_ambiguous(microvolts: NDArray[np.float64]) -> bool:
    """Whether an amplitude is so near to the middle between two µV that its error in mV decides between them."""
    distance = np.abs(microvolts - np.floor(microvolts) - 0.5)
    return bool((distance <= np.abs(microvolts) * FLOAT32).any())  # NaN is not


def _digests(counts: NDArray[np.int16], reads: Reads, cuts: Sequence[Cut]) -> list[bytes]:
    """Digests of the windows of a whole record (L, T) in µV that a store would have."""
    spare = counts.shape[1] - reads.samples
    if spare <= 0:
        padded = np.pad(counts, ((0, 0), (0, -spare)))
        return [digest(padded)] if cuts else []
    starts = [window_starts(spare, round((stride or reads.seconds) * reads.fs), rule) for rule, stride in cuts]
    each = np.unique(np.concatenate([np.empty(0, np.int64), *starts]))
    return [digest(counts[:, start : start + reads.samples]) for start in each.tolist()]


def _rows(record: Record, reads: Reads) -> Sequence[int]:
    """Row of each lead that the model reads."""
    if missing := [lead for lead in reads.leads if lead not in record.leads]:
        raise UserError(
            f"{record.source}: lead{'s' * (len(missing) > 1)} {' '.join(missing)} missing; this model reads "
            f"{' '.join(reads.leads)}."
        )
    rows = [record.leads.index(lead) for lead in reads.leads]
    silent = [lead for lead, row in zip(reads.leads, rows, strict=True) if np.isnan(record.signal[row]).all()]
    if silent:
        raise UserError(f"{record.source}: no valid sample in {' '.join(silent)}; this model reads that lead.")
    return rows
