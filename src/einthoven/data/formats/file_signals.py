"""Signals as a file holds them, and how the wanted leads in mV are computed from them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import LeadMap, lead_map, millivolts, quote
from einthoven.errors import UserError
from einthoven.files import open_descriptor, read_bytes, reason
from einthoven.functional.leads import canonical_lead

MOST_BYTES = 2**30
"""Largest size of a file in bytes. This is enough for 24 hours of 12 leads at 500 Hz with 16 bits per sample."""

MOST_SAMPLES = 2**29
"""Largest number of samples of all signals of a record. In memory, a sample has eight bytes."""

PYTHON_STYLE = "{name}={value}"
"""How a Python program states the sampling frequency, the unit or the leads of a file."""

OptionStyle = str | Mapping[str, str]


@dataclass(frozen=True)
class Metadata:
    """What the file, a sidecar or the caller states.

    Attributes
    ----------
    fs : float or None
        Sampling frequency in Hz; None, also for the others, if it is not stated.
    units : str or None
        Unit of all signals.
    leads : tuple of str or None
        Names of the signals.
    option_style : str, mapping of str to str, or None
        How the user of the caller states a value, for messages: `PYTHON_STYLE`, or for example ``--{name} {value}``, or
        one such text for each of ``fs``, ``units`` and ``leads``. None if the user cannot state values.
    only_where_missing : bool
        Whether the values are for files that do not state them, so that other files may state other values.
    """

    fs: float | None = None
    units: str | None = None
    leads: tuple[str, ...] | None = None
    option_style: OptionStyle | None = PYTHON_STYLE
    only_where_missing: bool = False

    def option(self, name: str, value: object = "…") -> str:
        """Return the text with which the user states a value, such as ``--fs 500``."""
        text = value
        if isinstance(value, tuple):
            text = ",".join(value)
        elif isinstance(value, float):
            text = f"{value:.10g}"
        style = self.option_style or PYTHON_STYLE
        template = style if isinstance(style, str) else style[name]
        return template.format(name=name, value=text)


@dataclass(frozen=True)
class FileSignals:
    """The signals of one file, before leads and units are converted.

    Attributes
    ----------
    values : ndarray, shape (signals, T)
        Amplitudes; NaN where a sample is invalid.
    names, units : tuple of str
        Name and unit of each signal as the file states them.
    fs : float
        Sampling frequency in Hz.
    notes : tuple of str
        Sentences about what the reader assumed or dropped.
    cautions : tuple of str
        What a reader of a result has to know: parts of the file that are not in the record, and values that the reader
        changed.
    comments : tuple of str
        Age and sex of the patient, as `einthoven.data.formats.patient.patient_comments`.
    """

    values: NDArray[np.floating]
    names: tuple[str, ...]
    units: tuple[str, ...]
    fs: float
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()


def check_sample_count(samples: int, source: str) -> None:
    """Refuse a record that would need too much memory. Readers call this before they decode the samples.

    A file of 8-bit samples becomes eight times as large in memory, and a compressed one can become larger.

    Parameters
    ----------
    samples : int
        Number of samples of all signals.
    source : str
        Name of the file, for the message.

    Raises
    ------
    UserError
        If there are more than `MOST_SAMPLES`.
    """
    if samples > MOST_SAMPLES:
        raise UserError(f"{source}: {samples:,} samples found; expected an ECG of at most {MOST_SAMPLES:,} samples.")


def wanted_leads(
    signals: FileSignals, want: tuple[str, ...], source: str
) -> tuple[Iterator[NDArray[np.floating]], tuple[str, ...]]:
    """Compute the wanted leads in mV.

    Parameters
    ----------
    signals : FileSignals
    want : tuple of str
        Canonical names of the leads to compute.
    source : str
        Name of the file, for the message.

    Returns
    -------
    millivolt : iterator of ndarray, shape (T,)
        One lead at a time, as the array of all leads can be large.
    notes : tuple of str

    Raises
    ------
    UserError
        If the sampling frequency is not valid, there are no samples, a lead is missing or named twice, or a unit is
        unknown. The iterator raises it if an amplitude is beyond the range of float32.
    """
    # This form also refuses NaN, because a comparison with NaN is always false.
    if not 0 < signals.fs < 1e6:
        raise UserError(f"{source}: {signals.fs:g} Hz found; expected a positive sampling frequency below 1 MHz.")
    if signals.values.shape[1] == 0:
        raise UserError(f"{source}: no samples found; expected an ECG.")

    check_sample_count(signals.values.size, source)

    # A signal that no wanted lead is computed from may have an unknown unit.
    mapping = lead_map(signals.names, want, source)
    is_used = mapping.matrix.any(axis=0)
    scales = np.zeros(len(signals.names))
    for column in np.flatnonzero(is_used):
        scales[column] = millivolts(signals.units[column], source, signals.names[column])
    return _leads_in_millivolts(signals.values, mapping, scales, source), (*mapping.notes, *signals.notes)


def _leads_in_millivolts(
    values: NDArray[np.floating], mapping: LeadMap, scales: NDArray[np.float64], source: str
) -> Iterator[NDArray[np.floating]]:
    for millivolt in mapping.rows(values, scales):
        if max(np.nanmax(millivolt, initial=0), -np.nanmin(millivolt, initial=0)) > np.finfo(np.float32).max:
            raise UserError(f"{source}: amplitudes beyond the range of 32-bit numbers found; expected those of an ECG.")
        yield millivolt


def whole_rate(fs: float) -> float:
    """Return a sampling frequency as a whole number of Hz, if it differs from one by less than 1 in 10,000.

    Files state the time between samples, or the length of a block of samples, with few digits.
    """
    nearest = float(round(fs))
    return nearest if abs(fs - nearest) <= 1e-4 * fs else fs


def select_leads(names: tuple[str, ...]) -> tuple[list[int], tuple[str, ...]]:
    """Return the indices of the signals that have the name of a lead, and a note about the other signals.

    Use this for formats in which signals such as respiration may have another unit or sampling frequency.
    """
    columns = [column for column, name in enumerate(names) if canonical_lead(name)]
    others = [quote(name) for name in names if not canonical_lead(name)]
    if not others:
        return columns, ()
    return columns, (f"dropped {', '.join(others)}: not among the twelve leads",)


def read_ordinary_file(path: str | Path, max_bytes: int = MOST_BYTES) -> bytes:
    """Read an ordinary file of limited size.

    Raises
    ------
    UserError
        If the file cannot be read, or is larger than `max_bytes`.
    """
    name = Path(path).name
    try:
        descriptor, size = open_descriptor(os.fspath(path))
        try:
            if size > max_bytes:
                raise UserError(f"{name}: {size:,} bytes found; expected an ECG of at most {max_bytes:,} bytes.")
            return read_bytes(descriptor, size)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}).") from None
