"""Read one ECG from disk: the wanted leads in canonical order and in mV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.detect import detect_format, is_wfdb
from einthoven.data.formats.dicom import read_dicom
from einthoven.data.formats.ecg_xml import read_xml
from einthoven.data.formats.edf import read_bdf, read_edf
from einthoven.data.formats.file_signals import PYTHON_STYLE, FileSignals, Metadata, OptionStyle, wanted_leads
from einthoven.data.formats.hdf5 import read_hdf5
from einthoven.data.formats.inputs import record_name
from einthoven.data.formats.matlab import read_mat
from einthoven.data.formats.numpy_arrays import read_npy, read_npz
from einthoven.data.formats.rate import rate_notes, settle_rate
from einthoven.data.formats.record import Record
from einthoven.data.formats.scp import read_scp
from einthoven.data.formats.tabular import read_table
from einthoven.data.formats.watch import read_watch
from einthoven.data.formats.wfdb_header import read_header
from einthoven.data.formats.wfdb_record import read_wfdb, read_wfdb_microvolts
from einthoven.data.formats.wfdb_signal import Checksum
from einthoven.errors import UserError
from einthoven.functional.conform import round_to_int16
from einthoven.functional.leads import LEADS

# Formats that state sampling frequency, units and leads themselves: name -> reader, and the extra that it needs.
_COMPLETE_FORMATS: dict[str, tuple[Callable[[str | Path], FileSignals], str]] = {
    "EDF": (read_edf, "edf"),
    "BDF": (read_bdf, "edf"),
    "DICOM": (read_dicom, "dicom"),
    "XML": (read_xml, "xml"),
    "SCP-ECG": (read_scp, ""),
}

# Formats that may lack this metadata: name -> reader, which also takes the metadata from the caller.
_BARE_FORMATS: dict[str, tuple[Callable[[str | Path, Metadata], FileSignals], str]] = {
    "table": (read_table, ""),
    "watch": (read_watch, ""),
    "npy": (read_npy, ""),
    "npz": (read_npz, ""),
    "mat": (read_mat, ""),
    "HDF5": (read_hdf5, "hdf5"),
}

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
"""Suffixes of tables. A table may be a record or something else."""

SUFFIXES_WITHOUT_METADATA = (*TABLE_SUFFIXES, ".npy", ".npz", ".mat", ".hdf5", ".h5")
"""Suffixes of files that may not state fs, units and leads. A ``.mat`` file states them if it has a header."""

RECORD_SUFFIXES = (".hea", ".edf", ".bdf", ".dcm", ".xml", ".scp", ".npy", ".npz")
"""Suffixes of files that are records. A folder is searched for them."""


def read_record(
    path: str | Path,
    *,
    fs: float | None = None,
    units: str | None = None,
    leads: Sequence[str] | None = None,
    want: Sequence[str] = LEADS,
    checksum: Checksum = "verify",
    option_style: OptionStyle | None = PYTHON_STYLE,
    only_where_missing: bool = False,
) -> Record:
    """Read one ECG record.

    Parameters
    ----------
    path : str or Path
        A WFDB record: the header (``.hea``), its signal file (``.dat``, ``.mat``), or their common stem. Or a file of
        another format of docs/formats.md. The content of such a file shows its format, whatever its suffix is.
    fs, units, leads
        Sampling frequency in Hz, unit and names of the signals, for files that do not state them. `fs` is used for any
        file that states an implausible value (`einthoven.data.formats.rate`).
    want : sequence of str
        Canonical leads to return, in this order. Other leads may be missing.
    checksum : "verify" or "warn"
        If the signals do not match the checksums of the header: refuse the record, or add a note to it.
    option_style : str, mapping of str to str, or None
        How the user states `fs`, `units` and `leads`, for messages: ``--{name} {value}`` on the command line, or one
        such text for each of them. None if the user cannot state them.
    only_where_missing : bool
        Use `fs`, `units` and `leads` only for files that do not state them. If False, a file that states another value
        is refused.

    Returns
    -------
    Record
        `signal` (len(want), T) float32 mV.

    Raises
    ------
    UserError
        If a file is missing, truncated, damaged, of another format, or needs a package that is not installed; if a
        lead is missing or named twice; if a unit is unknown; if fs, units or leads are stated nowhere, or stated twice
        with different values; if the file states an implausible sampling frequency, and the caller none.
    """
    _check_options(want, checksum)
    given_leads = None if leads is None else tuple(leads)
    caller = Metadata(fs, units, given_leads, option_style, only_where_missing)
    name = record_name(path)
    signals = _read_other_format(path, caller)
    if signals is None:
        record = read_wfdb(path, tuple(want), checksum)
        rate = settle_rate(record.fs, caller.fs, caller, name)
        changes = rate_notes(record.fs, rate)
        return replace(record, fs=rate, notes=(*record.notes, *changes), cautions=changes)
    leads_in_millivolts, notes = wanted_leads(signals, tuple(want), name)
    signal = np.empty((len(want), signals.values.shape[1]), np.float32)
    for row, millivolt in zip(signal, leads_in_millivolts, strict=True):
        row[:] = millivolt
    notes = (*notes, *signals.cautions)
    return Record(
        signal,
        signals.fs,
        tuple(want),
        Path(name).stem,
        notes,
        comments=signals.comments,
        cautions=signals.cautions,
    )


def read_microvolts(
    path: str | Path,
    want: Sequence[str] = LEADS,
    *,
    fs: float | None = None,
    units: str | None = None,
    leads: Sequence[str] | None = None,
    checksum: Checksum = "verify",
    option_style: OptionStyle | None = PYTHON_STYLE,
    only_where_missing: bool = False,
) -> tuple[NDArray[np.int16], float, int, int]:
    """Read a record as int16 µV, the form in which the store saves it.

    The parameters are those of `read_record`.

    Returns
    -------
    signal : ndarray of int16, shape (len(want), T)
        µV, rounded half to even. Invalid samples are 0. Values beyond the int16 range are clipped.
    fs : float
        Sampling frequency in Hz.
    invalid, clipped : int
        Number of samples that the file marks as invalid, and number of clipped samples.
    """
    _check_options(want, checksum)
    given_leads = None if leads is None else tuple(leads)
    caller = Metadata(fs, units, given_leads, option_style, only_where_missing)
    name = record_name(path)
    signals = _read_other_format(path, caller)
    if signals is None:
        counts, rate_in_file, invalid, clipped = read_wfdb_microvolts(path, tuple(want), checksum)
        return counts, settle_rate(rate_in_file, caller.fs, caller, name), invalid, clipped
    leads_in_millivolts, _ = wanted_leads(signals, tuple(want), name)
    microvolts = np.empty((len(want), signals.values.shape[1]), np.int16)
    invalid = 0
    clipped = 0
    for row, millivolt in zip(microvolts, leads_in_millivolts, strict=True):
        row[:], is_invalid, is_clipped = round_to_int16(millivolt * 1000.0)
        invalid += int(np.count_nonzero(is_invalid))
        clipped += int(np.count_nonzero(is_clipped))
    return microvolts, signals.fs, invalid, clipped


def _read_other_format(path: str | Path, caller: Metadata) -> FileSignals | None:
    """Read a file of any format except WFDB. Return None for a WFDB record.

    A file without a header beside it is no WFDB record. Its content shows its format. `os.path` is used, because this
    runs for every record of a corpus.
    """
    if is_wfdb(path):
        format_name = "WFDB"
    else:
        format_name = detect_format(path)
        if format_name in _BARE_FORMATS:
            read_bare, extra = _BARE_FORMATS[format_name]
            try:
                return read_bare(path, caller)
            except ModuleNotFoundError as error:
                raise _missing_package_error(path, error, extra) from None

    if format_name == "WFDB":
        if (caller.units is not None or caller.leads is not None) and not caller.only_where_missing:
            read_header(path)
            _refuse_statements(path, caller)
        return None

    read_complete, extra = _COMPLETE_FORMATS[format_name]
    try:
        signals = read_complete(path)
    except ModuleNotFoundError as error:
        raise _missing_package_error(path, error, extra) from None
    _refuse_statements(path, caller)
    rate = settle_rate(signals.fs, caller.fs, caller, Path(path).name)
    return replace(signals, fs=rate, cautions=(*signals.cautions, *rate_notes(signals.fs, rate)))


def _refuse_statements(path: str | Path, caller: Metadata) -> None:
    """Refuse units and leads that the user states for a format that states them itself.

    This is done after the file was read: if it is damaged or another kind of file, that is the better message.
    """
    for key in ("units", "leads"):
        value = getattr(caller, key)
        if value is not None and not caller.only_where_missing:
            raise UserError(
                f"{path}: {caller.option(key, value)} given; expected none, as such a file states its {key} itself "
                f"(for the other files, a .json beside a file can state them)."
            )


def _missing_package_error(path: str | Path, error: ModuleNotFoundError, extra: str) -> UserError:
    return UserError(f"{path}: the package {error.name} that reads this format is missing; install einthoven[{extra}].")


def _check_options(want: Sequence[str], checksum: str) -> None:
    if checksum not in ("verify", "warn"):
        raise UserError(f"checksum={checksum!r}: expected verify or warn.")
    if tuple(want) == LEADS:
        return
    has_repetition = len(set(want)) < len(want)
    if not want or not set(want) <= set(LEADS) or has_repetition:
        raise UserError(f"leads {' '.join(want)!r} wanted; expected some of {' '.join(LEADS)}, each once.")
