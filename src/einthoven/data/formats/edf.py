"""Read EDF, EDF+, BDF and BDF+ with the edfio package."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from einthoven.data.formats.channels import quote
from einthoven.data.formats.file_signals import (
    MOST_BYTES,
    FileSignals,
    check_sample_count,
    read_ordinary_file,
    select_leads,
    whole_rate,
)
from einthoven.errors import UserError
from einthoven.files import reason

if TYPE_CHECKING:
    from edfio import BdfSignal, EdfSignal

MOST_BDF_BYTES = 2**28
"""Largest size of a BDF file in bytes: edfio needs ten times as much memory to decode one."""

_BYTES_PER_SAMPLE = {"EDF": 2, "BDF": 3}

# Positions in the header: number of data records, their duration, number of signals; then the fields of the signals.
_RECORD_COUNT = slice(236, 244)
_DURATION = slice(244, 252)
_SIGNAL_COUNT = slice(252, 256)
_MAIN_BYTES = 256
_BYTES_PER_SIGNAL = 256

# Labels of the signals that contain annotations.
_ANNOTATIONS = (b"EDF Annotations", b"BDF Annotations")

# Positions of fields among those of the signals, in bytes per signal: physical minimum and maximum, samples per record.
_PHYSICAL_RANGE = (104, 120)
_SAMPLES = (216, 224)


def read_edf(path: str | Path) -> FileSignals:
    """Read the leads of an EDF or EDF+ file. Other signals are dropped; their rate and unit can differ.

    Raises
    ------
    UserError
        If the file is damaged, truncated or not continuous, or if its leads differ in sampling frequency.

    References
    ----------
    Kemp, Olivan 2003, "European data format 'plus' (EDF+)".
    """
    return _read(path, "EDF")


def read_bdf(path: str | Path) -> FileSignals:
    """Read the leads of a BDF or BDF+ file, which has 24 bits per sample, as `read_edf` reads an EDF file.

    Raises
    ------
    UserError
        As `read_edf`.

    References
    ----------
    BioSemi, "Which file format does BioSemi use", https://www.biosemi.com/faq/file_format.htm
    """
    return _read(path, "BDF")


def _read(path: str | Path, kind: Literal["EDF", "BDF"]) -> FileSignals:
    import edfio

    source = Path(path).name
    data = read_ordinary_file(path, MOST_BYTES if kind == "EDF" else MOST_BDF_BYTES)
    read = edfio.read_edf if kind == "EDF" else edfio.read_bdf
    try:
        data, repairs = _repair(data, _BYTES_PER_SAMPLE[kind])
        # edfio warns about a truncated file, and about a range that cannot be scaled. Both are errors here.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            edf = read(data, header_encoding="latin-1")
            names = tuple(signal.label for signal in edf.signals)
            columns, notes = select_leads(names)
            leads = [edf.signals[column] for column in columns]
            rate = _common_rate(leads, names, source)
            if _has_gaps(data, _BYTES_PER_SAMPLE[kind], 1.0 / rate):
                raise UserError(f"{source}: a recording with interruptions ({kind}+D); expected a continuous one.")

            # The scaling divides by the ranges, so that they have to be finite.
            for signal in leads:
                if not np.isfinite([np.diff(signal.physical_range), np.diff(signal.digital_range)]).all():
                    raise ValueError("a range that is not finite")
                # A negative gain is written as a physical minimum above its maximum.
                if signal.digital_min > signal.digital_max:
                    raise ValueError(f"digital minimum {signal.digital_min} above maximum {signal.digital_max}")

            samples = edf.num_data_records * leads[0].samples_per_data_record
            check_sample_count(samples * len(leads), source)
            values = np.empty((len(leads), samples))
            for row, signal in zip(values, leads, strict=True):
                row[:] = signal.data
            units = tuple(signal.physical_dimension for signal in leads)
    except UserError:
        raise
    # edfio has no exception of its own: int(), float(), NumPy and the warnings above raise theirs.
    except Exception as error:
        raise UserError(f"{source}: the edfio package cannot read this {kind} file ({reason(error)}).") from None
    lead_names = tuple(names[column] for column in columns)
    return FileSignals(values, lead_names, units, whole_rate(rate), (*notes, *repairs))


def _common_rate(leads: Sequence[EdfSignal | BdfSignal], names: tuple[str, ...], source: str) -> float:
    """Return the sampling frequency of all leads in Hz."""
    if not leads:
        raise UserError(f"{source}: signals {quote(' '.join(names))} found; expected leads such as I, II, V1.")
    rates = sorted({float(signal.sampling_frequency) for signal in leads})
    if not np.isfinite(rates).all():
        raise ValueError("a sampling frequency that is not finite")
    if len(rates) > 1:
        listed = ", ".join(f"{rate:g}" for rate in rates)
        raise UserError(f"{source}: leads at {listed} Hz; expected one rate.")
    return rates[0]


def _has_gaps(data: bytes, bytes_per_sample: int, sample_seconds: float) -> bool:
    """Return whether a data record does not start where the one before it ends.

    The first annotation of each record is its start in s. Writers round starts and duration, so that half a sample of
    difference is none.

    References
    ----------
    Kemp, Olivan 2003, "European data format 'plus' (EDF+)", section 2.2.4, time keeping of data records.
    """
    signals = int(data[_SIGNAL_COUNT])
    header = data[: _MAIN_BYTES + signals * _BYTES_PER_SIGNAL]
    labels = [label.strip() for (label,) in struct.iter_unpack("16s", header[_MAIN_BYTES : _MAIN_BYTES + 16 * signals])]
    first, last = (_MAIN_BYTES + signals * position for position in _SAMPLES)
    sizes = [bytes_per_sample * int(field) for (field,) in struct.iter_unpack("8s", header[first:last])]
    annotations = [column for column, label in enumerate(labels) if label in _ANNOTATIONS]
    if not annotations:
        return False

    duration = float(header[_DURATION])
    start = len(header) + sum(sizes[: annotations[0]])
    starts = []
    for position in range(start, len(data), sum(sizes)):
        text = data[position : position + sizes[annotations[0]]]
        seconds, _, _ = text.partition(b"\x14")
        starts.append(float(seconds))
    steps = np.diff(starts)
    return bool((np.abs(steps - duration) > sample_seconds / 2).any())


def _repair(data: bytes, bytes_per_sample: int) -> tuple[bytes, tuple[str, ...]]:
    """Return the file as the specification wants it, and notes about what was changed.

    Some programs write decimal commas. A recording that was not ended properly states -1 data records; its last
    record can be incomplete.

    Raises
    ------
    ValueError
        If the header is too short, states no number of signals or of samples, or states data records of 0 s.
    """
    signals = int(data[_SIGNAL_COUNT])
    header_bytes = _MAIN_BYTES + signals * _BYTES_PER_SIGNAL
    if signals < 1 or len(data) < header_bytes:
        raise ValueError(f"{len(data)} bytes, which is less than the header of {signals} signals has")

    header = bytearray(data[:header_bytes])
    ranges = slice(*(_MAIN_BYTES + signals * position for position in _PHYSICAL_RANGE))
    for field in (_DURATION, ranges):
        header[field] = header[field].replace(b",", b".")

    if float(header[_DURATION]) == 0:
        raise ValueError("data records of 0 s")
    notes: tuple[str, ...] = ()
    if int(header[_RECORD_COUNT]) == -1:
        first, last = (_MAIN_BYTES + signals * position for position in _SAMPLES)
        samples = [int(field) for (field,) in struct.iter_unpack("8s", header[first:last])]
        record_bytes = sum(samples) * bytes_per_sample
        if min(samples) < 0 or record_bytes == 0:
            raise ValueError("no samples in a data record")
        records, incomplete_bytes = divmod(len(data) - header_bytes, record_bytes)
        header[_RECORD_COUNT] = f"{records:<8d}".encode()
        data = data[: len(data) - incomplete_bytes]
        notes = (f"the header states no number of data records: {records}, from the size of the file",)
        if incomplete_bytes:
            notes += ("the last data record is incomplete, and not read",)
    if header == data[:header_bytes]:
        return data, notes
    return bytes(header) + data[header_bytes:], notes
