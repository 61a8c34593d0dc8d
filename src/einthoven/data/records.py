"""One record on disk -> `Record`: 12 leads in canonical order, in mV, or a sentence that says why not.

WFDB headers are parsed here; signals in format 16 (PTB-XL `.dat`, PhysioNet/CinC `.mat` with `16+24`)
are read directly with their checksums verified, every other format through the `wfdb` package.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

MILLIVOLT = {
    "mv": 1.0,
    "uv": 1e-3,
    "µv": 1e-3,
    "μv": 1e-3,
    "v": 1e3,
}  # amplitude of one unit in mV; µ has two code points
_BITS = {8: "80 508", 10: "310 311", 12: "212", 16: "16 61 160 516", 24: "24 524", 32: "32"}
# WFDB signal format -> the count that means "no valid sample here": the lowest of its bits
INVALID = {name: -(2 ** (bits - 1)) for bits, names in _BITS.items() for name in names.split()}
_GAINS = (1e-3, 1e9)  # counts per mV; the ECGs of this world lie well between

_KEYS = {lead.upper() for lead in LEADS}
_SIGNAL_FORMAT = re.compile(r"^(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$")
_GAIN = re.compile(r"^([-+\d.eE]+)(?:\(([-+]?\d+)\))?(?:/(\S+))?$")


@dataclass(frozen=True)
class Record:
    """A 12-lead ECG.

    Attributes
    ----------
    signal : ndarray of float32, shape (12, T)
        Amplitudes in mV, leads in canonical order; NaN where the file marks a sample as invalid.
    fs : float
        Sampling frequency in Hz.
    leads : tuple of str
        Always ``einthoven.functional.leads.LEADS``.
    source : str
        The file's name, without its folder.
    """

    signal: NDArray[np.float32]
    fs: float
    leads: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class SignalSpec:
    """One signal line of a WFDB header: `gain` in counts per `unit`."""

    file: str
    fmt: str
    offset: int
    gain: float
    baseline: int
    unit: str
    initial: int | None
    checksum: int | None
    name: str
    plain: bool  # one sample per frame, no skew


@dataclass(frozen=True)
class Header:
    """A WFDB record header: `samples` is None where the header leaves it out."""

    path: Path
    fs: float
    samples: int | None
    signals: tuple[SignalSpec, ...]


def read_record(path: str | Path) -> Record:
    """Read one 12-lead ECG record.

    Parameters
    ----------
    path : str or Path
        A WFDB record: the header (``.hea``), its signal file (``.dat``, ``.mat``) or their common stem.

    Returns
    -------
    Record
        `signal` (12, T) float32 mV in canonical lead order.

    Raises
    ------
    UserError
        If a file is missing, truncated or damaged, a lead is missing or doubled, or a unit is unknown.

    References
    ----------
    WFDB header specification, https://wfdb.io/spec/header-files.html
    """
    header = read_header(path)
    order = lead_order([spec.name for spec in header.signals], header.path)
    digital = _read_format_16(header) if _is_plain_16(header) else _read_with_wfdb(header)
    signal = np.empty((len(LEADS), digital.shape[1]), dtype=np.float32)
    for row, column in enumerate(order):
        spec = header.signals[column]
        signal[row] = (digital[column] - np.float64(spec.baseline)) * millivolts_per_count(spec, header.path)
    return Record(signal, header.fs, LEADS, header.path.stem)


def read_microvolts(path: str | Path, want: Sequence[str] = LEADS) -> tuple[NDArray[np.int16], float, int, int]:
    """Read a record as int16 µV, the form in which the store keeps it.

    Parameters
    ----------
    path : str or Path
        As for `read_record`.
    want : sequence of str
        Canonical leads to return, in this order.

    Returns
    -------
    signal : ndarray of int16, shape (len(want), T)
        µV, rounded half to even; invalid samples are 0, overflow is clipped; both are counted.
    fs : float
        Sampling frequency in Hz.
    invalid, clipped : int
        Number of samples marked invalid in the file, and of samples beyond the int16 range.
    """
    record = read_record(path)
    rows = [LEADS.index(lead) for lead in want]
    microvolts = np.rint(record.signal[rows].astype(np.float64) * 1000.0)
    invalid = ~np.isfinite(microvolts)
    microvolts[invalid] = 0.0
    clipped = int(np.count_nonzero(np.abs(microvolts) > 32767))
    return np.clip(microvolts, -32767, 32767).astype(np.int16), record.fs, int(invalid.sum()), clipped


def lead_order(names: Sequence[str], path: Path) -> list[int]:
    """Column of each canonical lead among `names` (any case, any order).

    Raises
    ------
    UserError
        If one of the 12 leads is missing or named twice.
    """
    found: dict[str, int] = {}
    for column, name in enumerate(names):
        key = name.strip().upper()
        if key in found and key in _KEYS:
            raise UserError(f"{path.name}: lead {name!r} is named twice; expected each of {' '.join(LEADS)} once.")
        found[key] = column
    missing = [lead for lead in LEADS if lead.upper() not in found]
    if missing:
        raise UserError(
            f"{path.name}: lead{'s' * (len(missing) > 1)} {', '.join(missing)} missing: found "
            f"{' '.join(names) or 'no leads'}, expected {' '.join(LEADS)} in any order."
        )
    return [found[lead.upper()] for lead in LEADS]


def millivolts_per_count(spec: SignalSpec, path: Path) -> float:
    """Amplitude of one count of a signal.

    Raises
    ------
    UserError
        If the unit is unknown, or the gain says that the signal is not calibrated.
    """
    if spec.unit.lower() not in MILLIVOLT:
        raise UserError(f"{path.name}: lead {spec.name}: unknown unit {_shown(spec.unit)}; expected mV, uV or V.")
    scale = MILLIVOLT[spec.unit.lower()]
    if not _GAINS[0] <= abs(spec.gain) / scale <= _GAINS[1]:
        raise UserError(
            f"{path.name}: lead {spec.name}: gain {spec.gain:g}/{spec.unit} is not that of a calibrated ECG; "
            "expected counts per unit, such as 1000/mV."
        )
    return scale / spec.gain


def read_header(path: str | Path) -> Header:
    """Parse a WFDB header of a single-segment record.

    Raises
    ------
    UserError
        If the header is missing or one of its lines cannot be read.
    """
    path = Path(path)
    header_path = (
        path
        if path.suffix == ".hea"
        else path.with_suffix(".hea")
        if path.suffix in {".dat", ".mat"}
        else Path(f"{path}.hea")
    )
    try:
        text = header_path.read_text(encoding="utf-8", errors="strict")
    except UnicodeDecodeError as error:
        raise UserError(f"{header_path.name}: not a text file (byte {error.start}); expected a WFDB header.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{header_path}: cannot be read ({_reason(error)}); expected a WFDB header.") from None
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise UserError(f"{header_path.name}: empty; expected a WFDB header.")
    fs, samples, count = _record_line(lines[0], header_path)
    if len(lines) - 1 < count:
        raise UserError(f"{header_path.name}: {len(lines) - 1} signal lines found, expected {count}.")
    signals = tuple(_signal_line(line, header_path) for line in lines[1 : count + 1])
    return Header(header_path, fs, samples, signals)


def _record_line(line: str, path: Path) -> tuple[float, int | None, int]:
    fields = line.split()
    if len(fields) > 0 and "/" in fields[0]:
        raise UserError(f"{path.name}: a multi-segment record ({_shown(fields[0])}); expected a record of one segment.")
    try:
        count = int(fields[1])
        fs = float(fields[2].split("/")[0]) if len(fields) > 2 else 250.0  # the WFDB default
        samples = int(fields[3]) if len(fields) > 3 else None
    except (IndexError, ValueError):
        raise UserError(
            f"{path.name}: record line {_shown(line)} cannot be read; expected 'name signals fs samples'."
        ) from None
    if count < 1 or not 0 < fs < 1e6 or (samples is not None and samples < 1):
        raise UserError(
            f"{path.name}: {count} signals, {fs:g} Hz, {samples} samples found in the record line; "
            "expected positive numbers (fs below 1 MHz)."
        )
    return fs, samples, count


def _signal_line(line: str, path: Path) -> SignalSpec:
    fields = line.split(maxsplit=8)
    expected = "expected 'file format gain/unit bits zero initial checksum block lead'"
    if len(fields) < 3:
        raise UserError(f"{path.name}: signal line {_shown(line)} is too short; {expected}.")
    if fields[0] in (".", "..") or set(fields[0]) & set("/\\") or not fields[0].isprintable():
        raise UserError(
            f"{path.name}: signal file {_shown(fields[0])} lies outside the record's folder; expected a file's name."
        )
    fmt, gain = _SIGNAL_FORMAT.match(fields[1]), _GAIN.match(fields[2])
    try:
        if fmt is None or gain is None:
            raise ValueError
        zero, initial, checksum = (_int32(fields[k]) if len(fields) > k else None for k in (4, 5, 6))
        return SignalSpec(
            file=fields[0],
            fmt=fmt[1],
            offset=_int32(fmt[4] or "0"),
            gain=float(gain[1]),
            baseline=_int32(gain[2]) if gain[2] is not None else zero or 0,
            unit=gain[3] or "mV",
            initial=initial,
            checksum=checksum,
            name=fields[8].strip() if len(fields) > 8 else "",
            plain=fmt[2] in (None, "1") and fmt[3] in (None, "0"),
        )
    except ValueError:
        raise UserError(f"{path.name}: signal line {_shown(line)} cannot be read; {expected}.") from None


def _int32(text: str) -> int:
    value = int(text)
    if not -(2**31) <= value < 2**31:
        raise ValueError
    return value


def _shown(text: str) -> str:
    """Text of a file as it can stand in a sentence: quoted, on one line, not too long."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _is_plain_16(header: Header) -> bool:
    first = header.signals[0]
    return all(s.fmt == "16" and s.plain and s.file == first.file and s.offset == first.offset for s in header.signals)


def _read_format_16(header: Header) -> NDArray[np.float64]:
    """Digital samples (signals, T) of interleaved little-endian int16; invalid samples become NaN."""
    spec, count = header.signals[0], len(header.signals)
    file = header.path.with_name(spec.file)
    try:
        data = file.read_bytes()[spec.offset :]
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({_reason(error)}), though {header.path.name} names it.") from None
    raw = np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2")
    samples = header.samples if header.samples is not None else raw.size // count
    if raw.size < samples * count or samples == 0:
        raise UserError(
            f"{file.name}: truncated: {raw.size // count} of {samples} samples per lead found "
            f"({raw.size * 2} of {samples * count * 2} bytes)."
        )
    digital = raw[: samples * count].reshape(samples, count)
    _verify(digital, header)
    return _mark_invalid(digital, header)


def _mark_invalid(digital: NDArray[np.integer], header: Header) -> NDArray[np.float64]:
    """Digital samples (T, signals) -> (signals, T), NaN where the format says that there is no valid sample."""
    values = digital.T.astype(np.float64)
    for row, spec in zip(values, header.signals, strict=True):
        row[row == INVALID.get(spec.fmt, np.nan)] = np.nan
    return values


def _verify(digital: NDArray[np.integer], header: Header) -> None:
    sums = digital.sum(axis=0, dtype=np.int64) & 0xFFFF
    for column, spec in enumerate(header.signals):
        if spec.checksum is not None and int(sums[column]) != spec.checksum & 0xFFFF:
            raise UserError(
                f"{spec.file}: lead {spec.name}: checksum {int(sums[column])} found, "
                f"{header.path.name} says {spec.checksum & 0xFFFF}: the file is damaged or the header is not its own."
            )
        if spec.initial is not None and int(digital[0, column]) != spec.initial:
            raise UserError(
                f"{spec.file}: lead {spec.name}: first sample {int(digital[0, column])} found, "
                f"{header.path.name} says {spec.initial}."
            )


def _read_with_wfdb(header: Header) -> NDArray[np.float64]:
    import wfdb

    try:
        digital = wfdb.rdrecord(str(header.path.with_suffix("")), physical=False).d_signal
        if digital is None or digital.ndim != 2 or digital.shape[1] != len(header.signals) or not len(digital):
            raise ValueError("no signals of one length")
    except Exception as error:  # wfdb raises whatever numpy, ast or struct raised; the user needs the file's name
        reason = " ".join(str(error).split())
        raise UserError(f"{header.path.name}: the wfdb package cannot read this record ({reason}).") from None
    if all(spec.plain for spec in header.signals):
        _verify(digital, header)
    return _mark_invalid(digital, header)
