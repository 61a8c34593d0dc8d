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
INVALID_16 = -32768  # WFDB format 16: "no valid sample here"

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
    """One signal line of a WFDB header."""

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
        scale = MILLIVOLT[spec.unit] / spec.gain
        signal[row] = (digital[column] - np.float64(spec.baseline)) * scale
    return Record(signal, header.fs, LEADS, header.path.stem)


def read_microvolts(path: str | Path) -> tuple[NDArray[np.int16], float, int, int]:
    """Read a record as int16 µV, the form in which the store keeps it.

    Returns
    -------
    signal : ndarray of int16, shape (12, T)
        µV, rounded half to even; invalid samples are 0, overflow is clipped; both are counted.
    fs : float
        Sampling frequency in Hz.
    invalid, clipped : int
        Number of samples marked invalid in the file, and of samples beyond the int16 range.
    """
    record = read_record(path)
    microvolts = np.rint(record.signal.astype(np.float64) * 1000.0)
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
        if key in found:
            raise UserError(f"{path.name}: lead {name!r} is named twice; expected each of {' '.join(LEADS)} once.")
        found[key] = column
    missing = [lead for lead in LEADS if lead.upper() not in found]
    if missing:
        raise UserError(
            f"{path.name}: lead{'s' * (len(missing) > 1)} {', '.join(missing)} missing: found "
            f"{' '.join(names) or 'no leads'}, expected {' '.join(LEADS)} in any order."
        )
    return [found[lead.upper()] for lead in LEADS]


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
    except OSError as error:
        raise UserError(f"{header_path}: cannot be read ({error.strerror}); expected a WFDB header.") from None
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
        raise UserError(f"{path.name}: a multi-segment record ({fields[0]}); expected a record of one segment.")
    try:
        count = int(fields[1])
        fs = float(fields[2].split("/")[0]) if len(fields) > 2 else 250.0  # the WFDB default
        samples = int(fields[3]) if len(fields) > 3 else None
    except (IndexError, ValueError):
        raise UserError(
            f"{path.name}: record line {line!r} cannot be read; expected 'name signals fs samples'."
        ) from None
    if count < 1 or not 0 < fs < 1e6 or (samples is not None and samples < 1):
        raise UserError(
            f"{path.name}: {count} signals, {fs:g} Hz, {samples} samples; expected positive numbers (fs below 1 MHz)."
        )
    return fs, samples, count


def _signal_line(line: str, path: Path) -> SignalSpec:
    fields = line.split(maxsplit=8)
    expected = "expected 'file format gain/unit bits zero initial checksum block lead'"
    if len(fields) < 3:
        raise UserError(f"{path.name}: signal line {line!r} is too short; {expected}.")
    if Path(fields[0]).name != fields[0]:
        raise UserError(f"{path.name}: signal file {fields[0]!r} lies outside the record's folder; {expected}.")
    fmt, gain = _SIGNAL_FORMAT.match(fields[1]), _GAIN.match(fields[2])
    try:
        if fmt is None or gain is None:
            raise ValueError
        zero = int(fields[4]) if len(fields) > 4 else 0
        initial = int(fields[5]) if len(fields) > 5 else None
        checksum = int(fields[6]) if len(fields) > 6 else None
        value = float(gain[1])
    except ValueError:
        raise UserError(f"{path.name}: signal line {line!r} cannot be read; {expected}.") from None
    unit = (gain[3] or "mV").lower()
    if not np.isfinite(value) or value == 0:
        raise UserError(
            f"{path.name}: gain {gain[1]} means uncalibrated amplitudes; expected adu per mV, such as 1000/mV."
        )
    if unit not in MILLIVOLT:
        raise UserError(f"{path.name}: unknown unit {gain[3]!r}; expected mV, uV or V.")
    return SignalSpec(
        file=fields[0],
        fmt=fmt[1],
        offset=int(fmt[4] or 0),
        gain=value,
        baseline=int(gain[2]) if gain[2] is not None else zero,
        unit=unit,
        initial=initial,
        checksum=checksum,
        name=fields[8].strip() if len(fields) > 8 else "",
        plain=fmt[2] in (None, "1") and fmt[3] in (None, "0"),
    )


def _is_plain_16(header: Header) -> bool:
    first = header.signals[0]
    return all(s.fmt == "16" and s.plain and s.file == first.file and s.offset == first.offset for s in header.signals)


def _read_format_16(header: Header) -> NDArray[np.float64]:
    """Digital samples (signals, T) of interleaved little-endian int16; invalid samples become NaN."""
    spec, count = header.signals[0], len(header.signals)
    file = header.path.with_name(spec.file)
    try:
        raw = np.fromfile(file, dtype="<i2", offset=spec.offset)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}), though {header.path.name} names it.") from None
    samples = header.samples if header.samples is not None else raw.size // count
    if raw.size < samples * count or samples == 0:
        raise UserError(
            f"{file.name}: truncated: {raw.size // count} of {samples} samples per lead found "
            f"({raw.size * 2} of {samples * count * 2} bytes)."
        )
    digital = raw[: samples * count].reshape(samples, count)
    _verify(digital, header)
    values = digital.T.astype(np.float64)
    values[digital.T == INVALID_16] = np.nan
    return values


def _verify(digital: NDArray[np.int16], header: Header) -> None:
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
        record = wfdb.rdrecord(str(header.path.with_suffix("")), physical=False)
        digital = np.asarray(record.d_signal, dtype=np.float64).T
    except Exception as error:  # wfdb raises whatever numpy, ast or struct raised; the user needs the file's name
        raise UserError(f"{header.path.name}: the wfdb package cannot read this record ({error}).") from None
    return digital
