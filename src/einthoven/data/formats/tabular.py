"""Read CSV, TSV, ``.npy`` and ``.npz``: plain numbers with a sampling frequency, units and lead names.

Each of these three values has up to three sources: the file itself (names and units in a header row, a time column,
members of an ``.npz``), a sidecar (``stem.json`` with the keys fs, units and leads), and the caller. If two sources
state a value, they have to agree. If none states it, the file is refused.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from einthoven.data.formats.channels import MICRO_TO_U, is_unit, millivolts, quote
from einthoven.data.formats.file_signals import (
    MOST_BYTES,
    FileSignals,
    Metadata,
    check_sample_count,
    read_ordinary_file,
    whole_rate,
)
from einthoven.data.formats.inputs import record_name, sidecar_file
from einthoven.data.formats.rate import rate_notes, settle_rate
from einthoven.data.formats.table_text import MOST_TEXT, decode_text, is_clock_unit, parse_table
from einthoven.errors import UserError
from einthoven.files import BAD_ARRAY_HEADER, reason
from einthoven.functional.leads import canonical_lead

MOST_SIDECAR = 2**20
"""Largest size of a sidecar in bytes."""

# A time column, such as "time", "t (s)" or "time_ms".
_TIME_COLUMN = re.compile(r"^(?:elapsed[\s_]+time|time|t)(?:[\s_]*[(\[]?\s*([a-zµμ]+)\s*[)\]]?)?$", re.IGNORECASE)

# Name of a unit of time -> unit, and its number in a second. "microseconds" is replaced before.
_TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), ("s", 1.0)),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), ("ms", 1e3)),
    **dict.fromkeys(("us", "usec", "usecs", "usecond", "useconds"), ("µs", 1e6)),
    **dict.fromkeys(("ns", "nsec", "nsecs", "nanosecond", "nanoseconds"), ("ns", 1e9)),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), ("min", 1 / 60)),
}

# A name with a unit, such as "V1 (mV)", "aVR [µV]", "V1 uV", "I_mV", "II/mV" or "III in mV".
_NAME_WITH_BRACKET = re.compile(r"^(.*?)\s*[(\[]\s*(.*?)\s*[)\]]$")
_NAME_WITH_UNIT = re.compile(r"^(.*?)(?:\s+in\s+|[\s_/]+)([nuµμm]v)$", re.IGNORECASE)

# What DICOM and textbooks write in brackets behind a lead, which is no unit.
_LEAD_AUTHORS = ("", "einthoven", "goldberger", "wilson")

Value = TypeVar("Value")


def read_table(path: str | Path, caller: Metadata) -> FileSignals:
    """Read a table with one column per lead. The separator is a semicolon, a tab, a comma or blanks.

    Empty fields and ``nan`` are invalid samples. A column ``time`` (in seconds), ``time_ms`` or ``time (us)`` gives fs.

    Raises
    ------
    UserError
        If the file is not a table of numbers; if fs, units or leads are stated nowhere, or with two values.
    """
    source = Path(path).name
    table = parse_table(decode_text(read_ordinary_file(path, MOST_TEXT)), source)
    values = table.values
    if table.names is None:
        signals = add_metadata(path, values, Metadata(), caller, ("",) * len(values))
        return replace(signals, notes=(*signals.notes, *table.notes))
    header = list(table.names)

    # The units of the columns can be in the second row, as PhysioBank ATM and rdsamp write them.
    units_row = tuple(unit.strip("()[] ") for unit in table.units or ("",) * len(header))

    # Take the sampling frequency from the time column, and remove that column.
    time_columns = [column for column, name in enumerate(header) if _is_time(name)]
    if len(time_columns) > 1:
        raise UserError(f"{source}: {len(time_columns)} columns of time found; expected at most one.")
    fs: float | None = None
    origin = ""
    for column in time_columns:
        fs, origin = _sampling_frequency(values[column], header[column], units_row[column], source)
    values = np.delete(values, time_columns, axis=0)

    # Split "V1 (mV)" into name and unit.
    names = []
    units = []
    for column, name in enumerate(header):
        if column in time_columns:
            continue
        name, unit = _split_unit(name)
        names.append(name)
        # Columns that are no leads can have any other unit.
        unit_in_row = units_row[column] if canonical_lead(name) else ""
        if unit and unit_in_row and unit_in_row != unit and not _is_same_unit("units", unit_in_row, unit):
            raise UserError(
                f"{source}: lead {name}: unit {unit} in the header, {unit_in_row} in the row below; expected one value."
            )
        units.append(unit or unit_in_row)
    names_in_file = None if _are_default_names(names) else tuple(names)
    signals = add_metadata(path, values, Metadata(fs, None, names_in_file), caller, tuple(units), origin)
    return replace(signals, notes=(*signals.notes, *table.notes))


def _is_time(name: str) -> bool:
    """Decide whether a column contains the times of the samples, in a unit that is known or not stated."""
    match = _TIME_COLUMN.match(name)
    return match is not None and (match[1] is None or _time_unit(match[1]) is not None)


def _time_unit(text: str) -> tuple[str, float] | None:
    """Return the unit of time that a text means, and its number in a second."""
    return _TIME_UNITS.get(text.lower().replace("micro", "u").translate(MICRO_TO_U))


def _split_unit(name: str) -> tuple[str, str]:
    """Return the name of a column and its unit, which is empty if there is none.

    The bracket behind a lead is always a unit. So an unknown one, such as (counts) or (0.1 mV), is refused later.
    """
    in_bracket = _NAME_WITH_BRACKET.match(name)
    if in_bracket and in_bracket[2].lower() not in _LEAD_AUTHORS:
        is_lead = canonical_lead(in_bracket[1]) is not None
        if is_lead or re.fullmatch(r"\w*v(?:olt)?", in_bracket[2], re.IGNORECASE):
            return in_bracket[1], in_bracket[2]
    behind_name = _NAME_WITH_UNIT.match(name)
    if behind_name and canonical_lead(behind_name[1]):
        return behind_name[1], behind_name[2]
    return name, ""


def _are_default_names(names: list[str]) -> bool:
    """Decide whether columns have the names that R gives them: V1, V2, … and more of them than there are V leads."""
    return len(names) > 6 and names == [f"V{number}" for number in range(1, len(names) + 1)]


def read_npy(path: str | Path, caller: Metadata) -> FileSignals:
    """Read an array (leads, T) or (T, leads). The number of leads decides which axis is which.

    Raises
    ------
    UserError
        If the file is not an array of numbers, or both axes could be the leads; if fs, units or leads are stated
        nowhere, or with two values.
    """
    source = Path(path).name
    return add_metadata(path, _parse_array(read_ordinary_file(path), source), Metadata(), caller)


def read_npz(path: str | Path, caller: Metadata) -> FileSignals:
    """Read the member `signal` of an archive as `read_npy` reads an array. Members `fs`, `units`, `leads` are optional.

    Raises
    ------
    UserError
        As `read_npy`; also if the archive is damaged, is too large after decompression, or has no `signal`.
    """
    source = Path(path).name
    members: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(read_ordinary_file(path))) as archive:
            # Check the sizes before anything is decompressed.
            sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
            total_size = sum(sizes.values())
            if total_size > MOST_BYTES:
                raise UserError(
                    f"{source}: {total_size:,} bytes unpacked; expected an ECG of at most {MOST_BYTES:,} bytes."
                )
            if "signal" not in sizes:
                content = quote(" ".join(sizes)) if sizes else "nothing"
                raise UserError(f"{source}: {content} found; expected an array named signal.")
            for name in ("signal", "fs", "units", "leads"):
                if name in sizes:
                    members[name] = _parse_array(archive.read(f"{name}.npy"), f"{source}: {name}")
    except UserError:
        raise
    # A damaged member raises whatever its decompressor raises.
    except Exception as error:
        raise UserError(f"{source}: not a readable archive of arrays ({reason(error)}); expected an .npz.") from None

    stated = {name: array.tolist() for name, array in members.items() if name != "signal"}
    return add_metadata(path, members["signal"], check_metadata(stated, source), caller)


def add_metadata(
    path: str | Path,
    values: NDArray[Any],
    in_file: Metadata,
    caller: Metadata,
    column_units: tuple[str, ...] = (),
    origin: str = "",
) -> FileSignals:
    """Combine the values of a file with the metadata from the file, its sidecar and the caller.

    Parameters
    ----------
    path : path
    values : ndarray
        Shape (leads, T) if `column_units` is given. Otherwise (leads, T) or (T, leads).
    in_file, caller : Metadata
        What the file and the caller state.
    column_units : tuple of str
        The unit of each row of `values`; empty where the file states none.
    origin : str
        Where the file states its sampling frequency, such as "column 'time', in s".

    Raises
    ------
    UserError
        If fs, units or leads are stated nowhere or with two values, or do not fit the values; if the file states an
        implausible sampling frequency, and the user none.
    """
    source = record_name(path)
    check_sample_count(values.size, source)
    # An archive may contain texts, but not as its signal.
    if values.dtype.kind not in "biuf":
        raise UserError(f"{source}: an array of {values.dtype} found; expected real numbers.")
    sidecar = _read_sidecar(sidecar_file(path))

    # Names in the file that are no leads (such as "ch1") may be replaced by the sidecar or the caller.
    names_in_file = in_file.leads
    has_other_names = sidecar.leads is not None or caller.leads is not None
    if has_other_names and not any(canonical_lead(name) for name in in_file.leads or ()):
        names_in_file = None

    leads = _agree("leads", source, names_in_file, sidecar.leads, caller)
    fs = _agree("fs", source, None, sidecar.fs, caller)
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    if in_file.fs is not None:
        # A sidecar belongs to its file: it must not contradict the file, although a value for many files may.
        is_of_sidecar = caller.only_where_missing and sidecar.fs is not None
        fs = settle_rate(in_file.fs, fs, replace(caller, fs=None) if is_of_sidecar else caller, source, origin)
        cautions = rate_notes(in_file.fs, fs)
        if origin and not cautions:
            notes = (f"{fs:g} Hz from {origin}",)
    unit = _agree("units", source, in_file.units, sidecar.units, caller)
    lacks_unit = unit is None and not any(column_units)
    if leads is None or fs is None or lacks_unit:
        raise _missing_metadata_error(path, caller, leads=leads is None, fs=fs is None, units=lacks_unit)

    if not column_units:
        values = _leads_first(values, len(leads), source)
        column_units = ("",) * len(leads)
    elif len(leads) != len(column_units):
        raise UserError(f"{source}: {len(column_units)} columns found; expected {len(leads)}: {' '.join(leads)}.")
    for column_unit in column_units:
        _agree("units", source, column_unit or None, sidecar.units, caller)
    if np.isinf(values).any():
        raise UserError(f"{source}: an infinite value found; expected amplitudes, or nan where a sample is invalid.")

    units = tuple(column_unit or unit or "" for column_unit in column_units)
    return FileSignals(values, leads, units, fs, notes, cautions)


def _missing_metadata_error(path: str | Path, caller: Metadata, **is_missing: bool) -> UserError:
    source = record_name(path)
    descriptions = {"leads": "names of the leads", "fs": "sampling frequency", "units": "unit of the amplitudes"}
    keys = [key for key in descriptions if is_missing[key]]
    missing = ", the ".join(descriptions[key] for key in keys)
    options = ", ".join(caller.option(key) for key in keys) + ", or " if caller.option_style else ""
    json_keys = ", ".join(repr(key) for key in keys)
    sidecar = sidecar_file(path).name
    header = f", or {Path(source).stem}.hea or {Path(source).stem}.info" if source.lower().endswith(".mat") else ""
    return UserError(
        f"{source}: does not say the {missing}; expected {options}{json_keys} in {sidecar} beside it{header}."
    )


def _agree(key: str, source: str, in_file: Value | None, sidecar: Value | None, caller: Metadata) -> Value | None:
    """Return the value that the sources state, or None if none states it. Two different values are refused."""
    in_options: Value | None = getattr(caller, key)
    candidates = ((in_file, "in the file"), (sidecar, "in its .json"), (in_options, ""))
    stated = [(value, place) for value, place in candidates if value is not None]
    if not stated:
        return None
    if caller.only_where_missing and len(stated) > 1 and in_options is not None:
        stated = stated[:-1]
    first_value, first_place = stated[0]
    for value, place in stated[1:]:
        if value != first_value and not _is_same_unit(key, value, first_value):
            first = _as_text(first_value)
            second = f"{key} {_as_text(value)} {place}" if place else f"{caller.option(key, value)} given"
            raise UserError(f"{source}: {key} {first} {first_place}, {second}; expected one value.")
    return first_value


def _is_same_unit(key: str, value: object, other: object) -> bool:
    """Decide whether two texts are names of one unit, such as µV and uV."""
    if key != "units" or not (is_unit(str(value)) and is_unit(str(other))):
        return False
    return millivolts(str(value), "", "") == millivolts(str(other), "", "")


def _as_text(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _read_sidecar(path: Path) -> Metadata:
    if not path.is_file():
        return Metadata()
    try:
        content = json.loads(_read_text(path, MOST_SIDECAR))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path.name}: not JSON ({reason(error)}); expected an object with fs, units and leads."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name}: {quote(str(content))} found; expected an object with fs, units and leads.")
    return check_metadata(content, path.name)


def check_metadata(content: dict[str, Any], source: str) -> Metadata:
    """Check the types and ranges of fs, units and leads as a sidecar or an archive states them."""
    fs = content.get("fs")
    if fs is not None:
        if isinstance(fs, bool) or not isinstance(fs, int | float) or not 0 < fs < 1e6:
            raise UserError(f"{source}: fs {quote(str(fs))} found; expected a positive number of Hz, below 1 MHz.")
        fs = float(fs)

    units = content.get("units")
    if units is not None and not (isinstance(units, str) and units.strip()):
        raise UserError(f"{source}: units {quote(str(units))} found; expected a unit such as mV.")

    leads = content.get("leads")
    if leads is not None:
        if not isinstance(leads, list) or not leads or not all(isinstance(name, str) for name in leads):
            raise UserError(f"{source}: leads {quote(str(leads))} found; expected a list of names such as I, II, V1.")
        leads = tuple(leads)
    return Metadata(fs, units, leads)


def _leads_first(values: NDArray[Any], lead_count: int, source: str) -> NDArray[Any]:
    """Return the values as (leads, T). The axis with as many entries as there are leads becomes the first."""
    if values.ndim != 2 or lead_count not in values.shape:
        raise UserError(f"{source}: an array of shape {values.shape} found; expected {lead_count} leads × samples.")
    if values.shape[0] == values.shape[1]:
        raise UserError(
            f"{source}: an array of shape {values.shape} found, in which leads and samples cannot be told apart; "
            "expected more samples than leads."
        )
    return values if values.shape[0] == lead_count else values.T


def _parse_array(data: bytes, source: str) -> NDArray[Any]:
    """Parse an array in NumPy's format. The size that the header states is checked before memory is allocated."""
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
    except (ValueError, KeyError, EOFError) as error:
        raise UserError(f"{source}: not an array in NumPy's format ({reason(error)}); expected an .npy.") from None
    try:
        shape, _, dtype = read_header(stream)
    except BAD_ARRAY_HEADER:
        raise UserError(f"{source}: not an array in NumPy's format (damaged header); expected an .npy.") from None

    if dtype.hasobject:
        raise UserError(f"{source}: pickled objects found; expected numbers, as a pickle could run code.")
    if dtype.kind not in "fiuU":
        raise UserError(f"{source}: an array of {dtype} found; expected real numbers.")

    # Python integers cannot overflow, whatever shape the header states.
    size = len(data) - stream.tell()
    stated_size = dtype.itemsize * int(np.prod([int(n) for n in shape], dtype=object))
    if size != stated_size:
        raise UserError(f"{source}: truncated or damaged: {size} bytes of {stated_size} found for an array of {shape}.")
    stream.seek(0)
    return np.asarray(npy.read_array(stream, allow_pickle=False))


def _sampling_frequency(times: NDArray[np.float64], name: str, unit_in_row: str, source: str) -> tuple[float, str]:
    """Compute the sampling frequency in Hz from a time column, and return it with a description of the column.

    The times may be rounded. They have to rise in even steps. Without a unit in the name of the column or in the row of
    units, they are in seconds.
    """
    match = _TIME_COLUMN.match(name)
    stated_unit = (match and match[1]) or unit_in_row
    if not stated_unit or is_clock_unit(stated_unit):
        stated_unit = "s"
    unit_and_number = _time_unit(stated_unit)
    if unit_and_number is None:
        raise UserError(
            f"{source}: unknown unit {quote(stated_unit)} of the column {quote(name)}; expected s, ms, us, ns or min."
        )
    unit, per_second = unit_and_number
    if times.size < 2:
        raise UserError(f"{source}: {times.size} times in column {quote(name)}; expected at least two.")

    # A NaN makes these comparisons false, so that it is refused, too.
    mean_step = (times[-1] - times[0]) / (times.size - 1)
    steps = np.diff(times)
    is_even = mean_step > 0 and steps.min() > 0.5 * mean_step and steps.max() < 1.5 * mean_step
    if not is_even:
        raise UserError(
            f"{source}: times in column {quote(name)} are {steps.min():g} to {steps.max():g} {unit} apart; "
            "expected even steps, upwards."
        )

    # Times are written with few digits. A frequency that is almost a whole number becomes that number.
    fs = whole_rate(float(per_second / mean_step))
    return fs, f"column {quote(name)}, in {unit}"


def _read_text(path: str | Path, max_bytes: int) -> str:
    try:
        return read_ordinary_file(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{Path(path).name}: not text in UTF-8 (byte {error.start}).") from None
