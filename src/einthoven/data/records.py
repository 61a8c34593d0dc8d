"""One record on disk -> `Record`: the wanted leads in canonical order, in mV, or a sentence that says why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

if TYPE_CHECKING:
    from einthoven.data.wfdb_signal import Checksum


@dataclass(frozen=True)
class Record:
    """An ECG.

    Attributes
    ----------
    signal : ndarray of float32, shape (len(leads), T)
        Amplitudes in mV, leads in the order asked for; NaN where the file marks a sample as invalid.
    fs : float
        Sampling frequency in Hz.
    leads : tuple of str
        ``einthoven.functional.leads.LEADS`` unless others were wanted.
    source : str
        The file's name, without its folder.
    notes : tuple of str
        What was derived, dropped, turned in sign, renamed, and faults that were let pass.
    comments : tuple of str
        Comment lines of the header, without ``#``, such as ``Dx: 426783006``.
    """

    signal: NDArray[np.float32]
    fs: float
    leads: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()


def read_record(
    path: str | Path,
    *,
    fs: float | None = None,
    units: str | None = None,
    leads: Sequence[str] | None = None,
    want: Sequence[str] = LEADS,
    checksum: Checksum = "verify",
) -> Record:
    """Read one ECG record.

    Parameters
    ----------
    path : str or Path
        A WFDB record: the header (``.hea``), its signal file (``.dat``, ``.mat``) or their common stem.
    fs, units, leads
        Sampling frequency in Hz, unit and names of the signals, for files that do not say so themselves.
    want : sequence of str
        Canonical leads to return, in this order; no others need to be there.
    checksum : "verify" or "warn"
        Refuse a record whose signals are not those that its header was written for, or say so in the notes.

    Returns
    -------
    Record
        `signal` (len(want), T) float32 mV.

    Raises
    ------
    UserError
        If a file is missing, truncated or damaged, a lead is missing or doubled, or a unit is unknown.
    """
    from einthoven.data.wfdb_record import read_wfdb

    _check(path, fs, units, leads, want, checksum)
    return read_wfdb(path, tuple(want), checksum)


def read_microvolts(
    path: str | Path,
    want: Sequence[str] = LEADS,
    *,
    fs: float | None = None,
    units: str | None = None,
    leads: Sequence[str] | None = None,
    checksum: Checksum = "verify",
) -> tuple[NDArray[np.int16], float, int, int]:
    """Read a record as int16 µV, the form in which the store keeps it; parameters as in `read_record`.

    Returns
    -------
    signal : ndarray of int16, shape (len(want), T)
        µV, rounded half to even; invalid samples are 0, overflow is clipped; both are counted.
    fs : float
        Sampling frequency in Hz.
    invalid, clipped : int
        Number of samples marked invalid in the file, and of samples beyond the int16 range.
    """
    from einthoven.data.wfdb_record import read_wfdb_microvolts

    _check(path, fs, units, leads, want, checksum)
    return read_wfdb_microvolts(path, tuple(want), checksum)


def _check(
    path: str | Path,
    fs: float | None,
    units: str | None,
    leads: Sequence[str] | None,
    want: Sequence[str],
    checksum: str,
) -> None:
    if checksum not in ("verify", "warn"):
        raise UserError(f"checksum={checksum!r}: expected verify or warn.")
    if tuple(want) != LEADS and (not want or not set(want) <= set(LEADS) or len(set(want)) < len(want)):
        raise UserError(f"leads {' '.join(want)!r} wanted; expected some of {' '.join(LEADS)}, each once.")
    for name, value in (("fs", fs), ("units", units), ("leads", leads)):
        if value is not None:
            raise UserError(f"{path}: {name}={value} given; expected none, as a WFDB header says it itself.")
