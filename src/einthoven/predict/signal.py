"""Records to the input of a model. A record that the model cannot read is refused with one sentence."""

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
from einthoven.data.store.digests import Digests, digest, first_second
from einthoven.errors import UserError
from einthoven.functional.conform import cut_record, resample, round_to_int16, window_starts

SLOWEST_RATE = 0.9
"""A record needs at least this share of the model's sampling frequency: a slower one lacks what the model looks at."""

SHORTEST_RECORD = 0.5
"""A record needs at least this share of the model's record length if the model was trained on padded records."""

_LOST_SAMPLES = 1.5
"""A record may be shorter by so many samples: resampling can lose one."""

MOST_INVALID = 0.5
"""From this share of invalid samples on, a record is refused: the model would read mostly zeros."""

FLOAT32_ERROR = 2.0**-23
"""Largest relative error of an amplitude in mV."""

Cut = tuple[str, float | None]
"""How a store cuts long records: rule and stride in seconds, as in `einthoven.functional.conform.cut_record`."""


@dataclass(frozen=True)
class InputFormat:
    """The input that a model expects.

    Attributes
    ----------
    leads : tuple of str
    fs : float
        Sampling frequency in Hz.
    seconds : float
        Length of a record.
    pads : bool
        Whether the training records were padded with 0 mV to this length.
    window, stride : int
        Length of a window of the classifier, and distance between the starts of two windows, in samples.
    aggregate : str
        ``mean`` or ``max`` of the probabilities over the windows.
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
        """Number of samples of a record."""
        return round(self.seconds * self.fs)


@dataclass(frozen=True)
class Prepared:
    """One record, converted to the input of a model. A long record becomes W windows of the model's record length.

    Attributes
    ----------
    source : str
        Name of the record.
    signal : ndarray of int16, shape (W, L, T)
        The windows in µV, as in the store that the model was trained from.
    start_s : ndarray of float64, shape (W,)
        Start of each window in the record, in seconds.
    cautions : tuple of str
        Changes that were made to the record so that the model can read it.
    digests : ndarray of S16
        Content digests of the windows that a store would cut from the record (`einthoven.data.store.digests`).
    first_seconds : ndarray of S16
        Content digests of the first second of the record.
    refused : str or None
        Why the model refuses the record, if the doctor found a reason.
    """

    source: str
    signal: NDArray[np.int16]
    start_s: NDArray[np.float64]
    cautions: tuple[str, ...] = ()
    digests: Digests = field(default_factory=NONE.copy)
    first_seconds: Digests = field(default_factory=NONE.copy)
    refused: str | None = None


def read_prepared(
    file: str | Path, input_format: InputFormat, stride_s: float | None = None, cuts: Sequence[Cut] = (), **reading: Any
) -> tuple[Record, Prepared]:
    """Read a file and prepare its record.

    The parameters and errors are those of `prepare` and `einthoven.data.read_record`.
    """
    record = read_record(file, want=input_format.leads, **reading)

    def read_stored_microvolts() -> NDArray[np.int16]:
        return read_microvolts(file, input_format.leads, **reading)[0]

    return record, prepare(record, input_format, stride_s, cuts, read_stored_microvolts)


def prepare(
    record: Record,
    input_format: InputFormat,
    stride_s: float | None = None,
    cuts: Sequence[Cut] = (),
    read_stored_microvolts: Callable[[], NDArray[np.int16]] | None = None,
) -> Prepared:
    """Convert a record to the leads, sampling frequency and length that a model expects.

    Parameters
    ----------
    record : Record
        In mV. It has the leads of the model in any order, and may have other leads.
    input_format : InputFormat
    stride_s : float, optional
        Seconds between the windows of a long record. By default one window starts where the last one ends, and the last
        window ends where the record ends.
    cuts : sequence of (str, float or None)
        How the store of the model cut long records. Without cuts, no digests are computed.
    read_stored_microvolts : callable, optional
        Reads the record in µV as a store does. It is called if the mV of the record do not determine to which µV an
        amplitude is rounded.

    Raises
    ------
    UserError
        If a lead is missing, the record is too short, its sampling frequency is too low, or half of its samples are
        invalid.
    """
    name = record.source
    rows = _lead_rows(record, input_format)
    if record.fs < SLOWEST_RATE * input_format.fs:
        raise UserError(
            f"{name}: sampled at {record.fs:g} Hz, so that it contains nothing above {record.fs / 2:g} Hz; this model "
            f"reads {input_format.fs:g} Hz."
        )
    seconds = record.signal.shape[1] / record.fs
    shortest = input_format.seconds * (SHORTEST_RECORD if input_format.pads else 1.0)
    if seconds < shortest - _LOST_SAMPLES / input_format.fs:
        raise UserError(f"{name}: the record is {seconds:.4g} s long; this model needs at least {shortest:g} s.")

    # The same steps as in a store, so that the model reads the same µV as in training.
    signal = resample(record.signal[rows], record.fs, input_format.fs)
    microvolts = signal.astype(np.float64) * 1000.0
    counts, invalid, clipped = round_to_int16(microvolts)
    if invalid.mean() >= MOST_INVALID:
        raise UserError(
            f"{name}: {invalid.mean():.0%} of the samples of {' '.join(input_format.leads)} are invalid or were not "
            f"recorded; this model needs more than {1 - MOST_INVALID:.0%} of them."
        )
    versions = [counts]
    # A store resamples in mV too, so only a record that is not resampled can be ambiguous.
    if read_stored_microvolts is not None and record.fs == input_format.fs and _is_ambiguous(microvolts):
        counts = read_stored_microvolts()
        versions.append(counts)
    windows = cut_record(
        counts,  # type: ignore[arg-type]
        input_format.fs,
        input_format.seconds,
        long="slide",
        short="pad",
        stride=stride_s,
        source=name,
    )

    # A store may have either version of an ambiguous record.
    digests = {window_digest for version in versions for window_digest in _digests(version, input_format, cuts)}
    first_seconds = {first_second(version, input_format.fs) for version in versions} if cuts else set()
    signal_of_windows: NDArray[np.int16] = windows.signal  # type: ignore[assignment]
    return Prepared(
        name,
        signal_of_windows,
        windows.start_s,
        _cautions(record, input_format, seconds, invalid, clipped),
        np.array(sorted(digests), "S16"),
        np.array(sorted(first_seconds), "S16"),
    )


def _cautions(
    record: Record,
    input_format: InputFormat,
    seconds: float,
    invalid: NDArray[np.bool_],
    clipped: NDArray[np.bool_],
) -> tuple[str, ...]:
    """Return the cautions of a record, and those of its conversion: its length, and invalid and clipped samples."""
    cautions = list(record.cautions)
    if input_format.seconds - seconds > _LOST_SAMPLES / input_format.fs:
        cautions.append(f"{seconds:.4g} s long: the {input_format.seconds:g} s that the model reads end in 0 mV")
    if invalid.any():
        gaps = [lead for lead, row in zip(input_format.leads, invalid, strict=True) if row.any()]
        cautions.append(f"{int(invalid.sum())} samples of {' '.join(gaps)} are invalid: the model reads 0 mV there")
    if clipped.any():
        cautions.append(f"{int(clipped.sum())} samples beyond 32.767 mV are clipped to that value")
    return tuple(cautions)


def _is_ambiguous(microvolts: NDArray[np.float64]) -> bool:
    """Return whether an amplitude is so near to the middle between two µV that its float32 error decides the rounding.

    NaN is not ambiguous.
    """
    distance = np.abs(microvolts - np.floor(microvolts) - 0.5)
    return bool((distance <= np.abs(microvolts) * FLOAT32_ERROR).any())


def _digests(counts: NDArray[np.int16], input_format: InputFormat, cuts: Sequence[Cut]) -> list[bytes]:
    """Return the digests of the windows that a store would cut from a whole record in µV (L, T)."""
    if not cuts:
        return []
    spare = counts.shape[1] - input_format.samples
    if spare <= 0:
        padded = np.pad(counts, ((0, 0), (0, -spare)))
        return [digest(padded)]
    starts: set[int] = set()
    for rule, stride_s in cuts:
        stride = round((stride_s or input_format.seconds) * input_format.fs)
        starts.update(window_starts(spare, stride, rule).tolist())
    return [digest(counts[:, start : start + input_format.samples]) for start in sorted(starts)]


def _lead_rows(record: Record, input_format: InputFormat) -> Sequence[int]:
    """Return the row of each lead that the model reads.

    Raises
    ------
    UserError
        If a lead is missing, or has no valid sample.
    """
    missing = [lead for lead in input_format.leads if lead not in record.leads]
    if missing:
        raise UserError(
            f"{record.source}: lead{'s' * (len(missing) > 1)} {' '.join(missing)} missing; this model reads "
            f"{' '.join(input_format.leads)}."
        )
    rows = [record.leads.index(lead) for lead in input_format.leads]
    silent = [lead for lead, row in zip(input_format.leads, rows, strict=True) if np.isnan(record.signal[row]).all()]
    if silent:
        raise UserError(f"{record.source}: no valid sample in {' '.join(silent)}; this model reads that lead.")
    return rows
