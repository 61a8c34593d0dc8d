"""Read CSV, TSV, ``.npy`` and ``.npz``: plain numbers with a sampling frequency, units and lead names.

Each of these three values has up to three sources: the file itself (names and units in a header row, a time column,
members of an ``.npz``), a sidecar (``stem.json`` with the keys fs, units and leads), and the caller. If two sources
state a value, they have to agree. If none states it, the file is refused.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from einthoven.data.formats.channels import MICRO_TO_U, quote
from einthoven.data.formats.file_signals import MOST_BYTES, FileSignals, Metadata, read_ordinary_file, whole_rate
from einthoven.data.formats.rate import rate_notes, settle_rate
from einthoven.errors import UserError
from einthoven.files import BAD_ARRAY_HEADER, reason
from einthoven.functional.leads import canonical_lead

MOST_TEXT = 2**28
"""Largest size of a table in bytes."""

MOST_SIDECAR = 2**20
"""Largest size of a sidecar in bytes."""

# A time column, such as "time", "t (s)" or "time_ms".
_TIME_COLUMN = re.compile(
    r"^(?:time|t)(?:[\s_]*[(\[]?\s*(s|secs?|seconds?|ms|msecs?|milliseconds?|[uµμ]s|[uµμ]secs?|microseconds?|ns)\s*[)\]]?)?$",
    re.IGNORECASE,
)

# First letter of the unit of a time column -> unit, and its number in a second. "ms", "msec" and "milliseconds" are one
# unit; "microseconds" is replaced before.
_TIME_UNITS = {"s": ("s", 1.0), "m": ("ms", 1e3), "u": ("µs", 1e6), "n": ("ns", 1e9)}

# A name with a unit, such as "V1 (mV)" or "aVR [µV]".
_NAME_WITH_UNIT = re.compile(r"^(.*?)\s*[(\[]\s*(\w*v(?:olt)?)\s*[)\]]$", re.IGNORECASE)

Value = TypeVar("Value")


def read_table(path: str | Path, caller: Metadata) -> FileSignals:
    """Read a table with one column per lead. The separator is a comma, a semicolon or a tab.

    Empty fields and ``nan`` are invalid samples. A column ``time`` (in seconds), ``time_ms`` or ``time (us)`` gives fs.

    Raises
    ------
    UserError
        If the file is not a table of numbers; if fs, units or leads are stated nowhere, or with two values.
    """
    source = Path(path).name
    text = _read_text(path, MOST_TEXT)
    first_line, _, other_lines = text.partition("\n")
    if not first_line.strip():
        raise UserError(f"{source}: empty; expected a table of one column per lead.")

    # The first line is a header if one of its fields is not a number.
    separator = max(",;\t", key=first_line.count)
    header = [name.strip() for name in next(_split_lines([first_line], separator, source), [])]
    has_header = not all(_is_number(name) for name in header)
    if not has_header:
        values = _parse_numbers(text, separator, source, 1)
        return add_metadata(path, values, Metadata(), caller, ("",) * len(values))

    values = _parse_numbers(other_lines, separator, source, 2)
    if values.shape[0] != len(header) and values.size:
        raise UserError(
            f"{source}: {values.shape[0]} columns of numbers under {len(header)} names found; expected one each."
        )

    # Take the sampling frequency from the time column, and remove that column.
    time_columns = [column for column, name in enumerate(header) if _TIME_COLUMN.match(name)]
    if len(time_columns) > 1:
        raise UserError(f"{source}: {len(time_columns)} columns of time found; expected at most one.")
    fs: float | None = None
    origin = ""
    if time_columns:
        fs, origin = _sampling_frequency(values[time_columns[0]], header[time_columns[0]], source)
    values = np.delete(values, time_columns, axis=0)

    # Split "V1 (mV)" into name and unit.
    names = []
    units = []
    for column, name in enumerate(header):
        if column in time_columns:
            continue
        name_with_unit = _NAME_WITH_UNIT.match(name)
        names.append(name_with_unit[1] if name_with_unit else name)
        units.append(name_with_unit[2] if name_with_unit else "")
    return add_metadata(path, values, Metadata(fs, None, tuple(names)), caller, tuple(units), origin)


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
    return add_metadata(path, members["signal"], _check_metadata(stated, source), caller)


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
    source = Path(path).name
    sidecar = _read_sidecar(Path(path).with_suffix(".json"))

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
        fs = settle_rate(in_file.fs, fs, caller, source, origin)
        cautions = rate_notes(in_file.fs, fs)
        if origin and not cautions:
            notes = (f"{fs:g} Hz from {origin}",)
    unit = _agree("units", source, in_file.units, sidecar.units, caller)
    lacks_unit = unit is None and not any(column_units)
    if leads is None or fs is None or lacks_unit:
        raise _missing_metadata_error(source, caller, leads=leads is None, fs=fs is None, units=lacks_unit)

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


def _missing_metadata_error(source: str, caller: Metadata, **is_missing: bool) -> UserError:
    descriptions = {"leads": "names of the leads", "fs": "sampling frequency", "units": "unit of the amplitudes"}
    keys = [key for key in descriptions if is_missing[key]]
    missing = ", the ".join(descriptions[key] for key in keys)
    options = ", ".join(caller.option(key) for key in keys) + ", or " if caller.option_style else ""
    json_keys = ", ".join(repr(key) for key in keys)
    sidecar = Path(source).with_suffix(".json").name
    header = f", or its header {Path(source).stem}.hea" if source.lower().endswith(".mat") else ""
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
    first_value, first_place = stated[0]
    for value, place in stated[1:]:
        if value != first_value:
            first = _as_text(first_value)
            second = f"{key} {_as_text(value)} {place}" if place else f"{caller.option(key, value)} given"
            raise UserError(f"{source}: {key} {first} {first_place}, {second}; expected one value.")
    return first_value


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
    return _check_metadata(content, path.name)


def _check_metadata(content: dict[str, Any], source: str) -> Metadata:
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


def _parse_numbers(text: str, separator: str, source: str, first_line: int) -> NDArray[np.float64]:
    """Parse a table without its header.

    Parameters
    ----------
    text, separator, source : str
    first_line : int
        Number of the first line of `text` in the file, for messages.

    Returns
    -------
    ndarray, shape (columns, T)
    """
    rows: list[list[float]] = []
    for line, fields in enumerate(_split_lines(io.StringIO(text), separator, source), start=first_line):
        if not fields:
            continue
        if rows and len(fields) != len(rows[0]):
            raise UserError(
                f"{source}: {len(fields)} fields in line {line}; expected {len(rows[0])}, as in the lines before."
            )
        # Most lines contain numbers only. Lines with empty fields or mistakes take the slower function.
        try:
            rows.append([float(field) for field in fields])
        except ValueError:
            rows.append([_parse_number(field, source, line) for field in fields])
    if not rows:
        raise UserError(f"{source}: no samples found; expected a table of one column per lead.")
    return np.array(rows).T


def _split_lines(lines: Iterable[str], separator: str, source: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, delimiter=separator)
    except csv.Error as error:
        raise UserError(f"{source}: not a table ({reason(error)}); expected a table of one column per lead.") from None


def _parse_number(field: str, source: str, line: int) -> float:
    if not field.strip():
        return np.nan
    try:
        return float(field)
    except ValueError:
        raise UserError(f"{source}: {quote(field)} in line {line}; expected a number, or nothing.") from None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _sampling_frequency(times: NDArray[np.float64], name: str, source: str) -> tuple[float, str]:
    """Compute the sampling frequency in Hz from a time column, and return it with a description of the column.

    The times may be rounded. They have to rise in even steps.
    """
    match = _TIME_COLUMN.match(name)
    stated_unit = ((match and match[1]) or "s").lower().replace("micro", "u").translate(MICRO_TO_U)
    unit, per_second = _TIME_UNITS[stated_unit[0]]
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
