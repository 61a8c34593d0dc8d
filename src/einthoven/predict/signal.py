"""From a record to the windows that a model reads, or a sentence that says what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.data.conform import cut, resample, rounded
from einthoven.data.records import Record
from einthoven.errors import UserError

SLOWEST = 0.9  # of the model's sampling frequency: below it, what the model looks at is not in the file
SHORTEST = 0.5  # of a window, where the model has been trained on padded records


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
    """

    source: str
    signal: NDArray[np.int16]
    start_s: NDArray[np.float64]
    cautions: tuple[str, ...] = ()


def prepare(record: Record, reads: Reads, stride_s: float | None = None) -> Prepared:
    """Bring a record to the rate, leads and length that a model reads; a longer one becomes several windows.

    Parameters
    ----------
    record : Record
        In mV, with the leads that the model reads, in any order, and perhaps others.
    reads : Reads
    stride_s : float, optional
        Seconds between the windows of a longer record; by default they touch, and the last ends where the record does.

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
    windows = cut(signal, reads.fs, reads.seconds, long="slide", short="pad", stride=stride_s, source=name)
    counts, _, clipped = rounded(windows.signal.astype(np.float64) * 1000.0)
    cautions = []
    if reads.seconds - seconds > 1.5 / reads.fs:
        cautions.append(f"{seconds:.4g} s long: the {reads.seconds:g} s that the model reads end in 0 mV")
    if clipped.any():
        cautions.append(f"{int(clipped.sum())} samples beyond 32.767 mV, cut off there")
    return Prepared(name, counts, windows.start_s, tuple(cautions))


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
