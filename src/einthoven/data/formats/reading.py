"""One record on disk -> `Record`: the wanted leads in canonical order, in mV, or a sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.dicom import read_dicom
from einthoven.data.formats.ecg_xml import read_xml
from einthoven.data.formats.edf import read_edf
from einthoven.data.formats.file_signals import FileSignals, Told, wanted_leads
from einthoven.data.formats.matlab import read_mat
from einthoven.data.formats.record import Record
from einthoven.data.formats.tabular import read_npy, read_npz, read_table
from einthoven.data.formats.wfdb_record import read_wfdb, read_wfdb_microvolts
from einthoven.data.formats.wfdb_signal import Checksum
from einthoven.errors import UserError
from einthoven.functional.conform import rounded
from einthoven.functional.leads import LEADS

_WFDB = ("", ".hea", ".dat", ".mat")
_COMPLETE: dict[str, tuple[Callable[[str | Path], FileSignals], str]] = {
    ".edf": (read_edf, "edf"),  # suffix -> reader of files that say all themselves, and the extra that it takes
    ".dcm": (read_dicom, "dicom"),
    ".xml": (read_xml, "xml"),
}
TABLE_SUFFIXES = (".csv", ".tsv")
_BARE: dict[str, Callable[[str | Path, Told], FileSignals]] = {  # suffix -> reader of files that may have to be helped
    **dict.fromkeys(TABLE_SUFFIXES, read_table),
    ".npy": read_npy,
    ".npz": read_npz,
}
SUFFIXES_WITHOUT_METADATA = (*_BARE, ".mat")
"""Of files that may not say themselves what they hold; a ``.mat`` is one of them where no header stands beside it."""
RECORD_SUFFIXES = (".hea", *_COMPLETE, ".npy", ".npz")
"""What a folder is searched for: a table may be a record, or something else."""


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
        A WFDB record: the header (``.hea``), its signal file (``.dat``, ``.mat``) or their common stem; or a file
        that ends in ``.csv``, ``.tsv``, ``.npy``, ``.npz``, ``.edf``, ``.dcm`` or ``.xml``, or in ``.mat`` without a
        header beside it (see docs/formats.md).
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
        If a file is missing, truncated or damaged, of another format, or takes a package that is not installed; if a
        lead is missing or doubled, a unit is unknown, or fs, units or leads are said nowhere or in two ways.
    """
    _check(want, checksum)
    signals = _other_format(path, fs, units, leads)
    if signals is None:
        return read_wfdb(path, tuple(want), checksum)
    name = Path(path).name
    signal, notes = wanted_leads(signals, tuple(want), name)
    return Record(signal.astype(np.float32), signals.fs, tuple(want), Path(name).stem, notes)


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
    _check(want, checksum)
    signals = _other_format(path, fs, units, leads)
    if signals is None:
        return read_wfdb_microvolts(path, tuple(want), checksum)
    millivolt, _ = wanted_leads(signals, tuple(want), Path(path).name)
    packed, invalid, clipped = rounded(millivolt * 1000.0)
    return packed, signals.fs, int(np.count_nonzero(invalid)), int(np.count_nonzero(clipped))


def _other_format(
    path: str | Path, fs: float | None, units: str | None, leads: Sequence[str] | None
) -> FileSignals | None:
    """The signals of a file that is no WFDB record, or None where it is one: the file's suffix says it."""
    stem, suffix = os.path.splitext(path)  # noqa: PTH122 (a corpus asks this for every record)
    suffix = suffix.lower()
    alone = suffix == ".mat" and not os.path.isfile(f"{stem}.hea")  # noqa: PTH113
    if alone or suffix in _BARE:
        read_bare = read_mat if alone else _BARE[suffix]
        return read_bare(path, Told(fs, units, None if leads is None else tuple(leads)))
    for name, value in (("fs", fs), ("units", units), ("leads", leads)):
        if value is not None:
            raise UserError(
                f"{path}: {name}={value} given; expected none, as such a file says it itself (a .json beside others "
                "of its folder may say it for those)."
            )
    if suffix in _COMPLETE:
        read, extra = _COMPLETE[suffix]
        try:
            return read(path)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{path}: reading it takes the package {error.name}, which is missing; install einthoven[{extra}]."
            ) from None
    if suffix not in _WFDB and os.path.isfile(path) and not os.path.isfile(f"{path}.hea"):  # noqa: PTH113
        known = " ".join([*_WFDB[1:], *_COMPLETE, *_BARE])
        raise UserError(f"{path}: ends in {suffix}; expected the stem of a WFDB record, or one of {known}.")
    return None


def _check(want: Sequence[str], checksum: str) -> None:
    if checksum not in ("verify", "warn"):
        raise UserError(f"checksum={checksum!r}: expected verify or warn.")
    if tuple(want) != LEADS and (not want or not set(want) <= set(LEADS) or len(set(want)) < len(want)):
        raise UserError(f"leads {' '.join(want)!r} wanted; expected some of {' '.join(LEADS)}, each once.")
