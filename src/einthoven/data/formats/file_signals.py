"""What the readers of the other formats hand over, and the way from there to the leads that are wanted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import lead_map, millivolts, shown
from einthoven.errors import UserError
from einthoven.files import open_descriptor, read_bytes, reason
from einthoven.functional.leads import canonical_lead

MOST_BYTES = 2**30  # of one file: 14 hours of 12 leads at 500 Hz and 16 bits, more than an ECG that is read whole


@dataclass(frozen=True)
class Told:
    """What the caller says of a file that may not say it itself: sampling frequency, unit, names of the signals."""

    fs: float | None = None
    units: str | None = None
    leads: tuple[str, ...] | None = None


@dataclass(frozen=True)
class FileSignals:
    """The signals of one file as they stand in it.

    `values` (signals, T) in the `units` of each, NaN where invalid; `names` as in the file; `fs` in Hz.
    """

    values: NDArray[np.floating]
    names: tuple[str, ...]
    units: tuple[str, ...]
    fs: float
    notes: tuple[str, ...] = ()


def wanted_leads(
    signals: FileSignals, want: tuple[str, ...], source: str
) -> tuple[NDArray[np.floating], tuple[str, ...]]:
    """The wanted leads in mV (wanted, T), and notes.

    Raises
    ------
    UserError
        If the sampling frequency is none, there are no samples, a lead is missing or doubled, a unit is unknown, or an
        amplitude is beyond float32.
    """
    if not 0 < signals.fs < 1e6:  # NaN fails, too
        raise UserError(f"{source}: {signals.fs:g} Hz found; expected a positive sampling frequency below 1 MHz.")
    if signals.values.shape[1] == 0:
        raise UserError(f"{source}: no samples found; expected an ECG.")
    leads = lead_map(signals.names, want, source)
    used = np.count_nonzero(leads.matrix, axis=0)
    scale = [
        millivolts(unit, source, name) if needed else 0.0
        for name, unit, needed in zip(signals.names, signals.units, used, strict=True)
    ]
    millivolt = leads.apply(signals.values * np.array(scale)[:, None])
    if (np.abs(millivolt) > np.finfo(np.float32).max).any():
        raise UserError(f"{source}: amplitudes beyond the range of 32-bit numbers found; expected those of an ECG.")
    return millivolt, (*leads.notes, *signals.notes)


def leads_alone(names: tuple[str, ...]) -> tuple[list[int], tuple[str, ...]]:
    """Columns that are named as a lead, and a note of the others: for files whose other signals differ in kind."""
    keep = [column for column, name in enumerate(names) if canonical_lead(name)]
    others = [shown(name) for name in names if not canonical_lead(name)]
    return keep, (f"dropped {', '.join(others)}: not among the twelve leads",) if others else ()


def load(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of an ordinary file of at most `most` bytes.

    Raises
    ------
    UserError
        If it cannot be read, or is larger.
    """
    name = Path(path).name
    try:
        descriptor, size = open_descriptor(os.fspath(path))
        try:
            if size > most:
                raise UserError(f"{name}: {size:,} bytes found; expected an ECG of at most {most:,} bytes.")
            return read_bytes(descriptor, size)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}).") from None
