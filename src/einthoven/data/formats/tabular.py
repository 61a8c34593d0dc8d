"""CSV, TSV, ``.npy`` and ``.npz``: plain numbers, with fs, units and leads in the file, beside it, or told.

Each of the three may stand in the file itself (names and units in a header row, a time column, members of an
``.npz``), in a sidecar (``stem.json`` with the keys fs, units and leads), or be told by the caller. Where two say it,
they have to agree; where none does, the file is refused.
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

from einthoven.data.formats.channels import shown
from einthoven.data.formats.file_signals import MOST_BYTES, FileSignals, Told, load
from einthoven.errors import UserError
from einthoven.files import BAD_ARRAY_HEADER, reason
from einthoven.functional.leads import canonical_lead

MOST_TEXT = 2**28  # bytes of a table as text
MOST_SIDECAR = 2**20

_TIME = re.compile(r"^(?:time|t)(?:[\s_]*[(\[]?\s*(s|sec|seconds|ms)\s*[)\]]?)?$", re.IGNORECASE)
_UNIT = re.compile(r"^(.*?)\s*[(\[]\s*(\w*v(?:olt)?)\s*[)\]]$", re.IGNORECASE)  # "V1 (mV)", "aVR [µV]"
Said = TypeVar("Said")


def read_table(path: str | Path, told: Told) -> FileSignals:
    """Read a table of one column per lead, separated by commas, semicolons or tabs.

    Empty fields and ``nan`` are invalid samples. A column ``time``, in seconds or as ``time_ms``, gives fs.

    Raises
    ------
    UserError
        If it is no table of numbers, or fs, units or leads are said nowhere or in two ways.
    """
    source, text = Path(path).name, _text(path, MOST_TEXT)
    first, _, rest = text.partition("\n")
    if not first.strip():
        raise UserError(f"{source}: empty; expected a table of one column per lead.")
    separator = max(",;\t", key=first.count)
    header = [name.strip() for name in next(_fields([first], separator, source), [])]
    named = not all(_is_number(name) for name in header)
    values = _numbers(rest if named else text, separator, source, 2 if named else 1)
    if named and values.shape[0] != len(header) and values.size:
        raise UserError(
            f"{source}: {values.shape[0]} columns of numbers under {len(header)} names found; expected one each."
        )
    if not named:
        return told_signals(path, values, Told(), told, ("",) * len(values))
    times = [column for column, name in enumerate(header) if _TIME.match(name)]
    if len(times) > 1:
        raise UserError(f"{source}: {len(times)} columns of time found; expected at most one.")
    fs, notes = _rate(values[times[0]], header[times[0]], source) if times else (None, ())
    values = np.delete(values, times, axis=0)
    names = [name for column, name in enumerate(header) if column not in times]
    stated = [_UNIT.match(name) for name in names]
    each = tuple(found[2] if found else "" for found in stated)
    names = [found[1] if found else name for found, name in zip(stated, names, strict=True)]
    return told_signals(path, values, Told(fs, None, tuple(names)), told, each, notes)


def read_npy(path: str | Path, told: Told) -> FileSignals:
    """Read an array (leads, T) or (T, leads); which of the two follows from the number of leads.

    Raises
    ------
    UserError
        If it is no array of numbers, could be read both ways, or fs, units or leads are said nowhere or in two ways.
    """
    source = Path(path).name
    return told_signals(path, _array(load(path), source), Told(), told)


def read_npz(path: str | Path, told: Told) -> FileSignals:
    """Read the member `signal` of an archive, as `read_npy`; its members `fs`, `units` and `leads` say the rest.

    Raises
    ------
    UserError
        As `read_npy`; if the archive is damaged, larger unpacked than a file may be, or has no `signal`.
    """
    source = Path(path).name
    try:
        with zipfile.ZipFile(io.BytesIO(load(path))) as archive:
            sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
            if (size := sum(sizes.values())) > MOST_BYTES:
                raise UserError(f"{source}: {size:,} bytes unpacked; expected an ECG of at most {MOST_BYTES:,} bytes.")
            if "signal" not in sizes:
                found = shown(" ".join(sizes)) if sizes else "nothing"
                raise UserError(f"{source}: {found} found; expected an array named signal.")
            inside = {
                name: _array(archive.read(f"{name}.npy"), f"{source}: {name}")
                for name in ("signal", "fs", "units", "leads")
                if name in sizes
            }
    except UserError:
        raise
    except Exception as error:  # zipfile, and whatever the decompressor of a damaged member raised
        raise UserError(f"{source}: not a readable archive of arrays ({reason(error)}); expected an .npz.") from None
    fs, units, leads = (inside[name].tolist() if name in inside else None for name in ("fs", "units", "leads"))
    where = f"{source}: "
    return told_signals(path, inside["signal"], Told(_fs(fs, where), _units(units, where), _leads(leads, where)), told)


def told_signals(
    path: str | Path,
    values: NDArray[Any],
    inside: Told,
    told: Told,
    each: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> FileSignals:
    """Join what the file says with what others say.

    `each` is the unit of each row of `values`, empty where the file says none; without it, which axis is which is open.
    """
    source, beside = Path(path).name, _sidecar(Path(path).with_suffix(".json"))
    others = beside.leads or told.leads
    named = inside.leads if others is None or any(map(canonical_lead, inside.leads or ())) else None
    leads = _agreed("leads", source, named, beside.leads, told.leads)
    fs = _agreed("fs", source, inside.fs, beside.fs, told.fs)
    unit = _agreed("units", source, inside.units, beside.units, told.units)
    if leads is None or fs is None or (unit is None and not any(each)):
        raise _unsaid(source, leads=leads is None, fs=fs is None, units=unit is None and not any(each))
    if not each:
        values = _leads_first(values, len(leads), source)
    elif len(leads) != len(each):
        raise UserError(f"{source}: {len(each)} columns found; expected {len(leads)}: {' '.join(leads)}.")
    for own in each:
        _agreed("units", source, own or None, unit, None)
    if np.isinf(values).any():
        raise UserError(f"{source}: an infinite value found; expected amplitudes, or nan where a sample is invalid.")
    return FileSignals(values, leads, tuple(own or unit or "" for own in each or ("",) * len(leads)), fs, notes)


def _unsaid(source: str, **lacks: bool) -> UserError:
    words = {"leads": "names of the leads", "fs": "sampling frequency", "units": "unit of the amplitudes"}
    keys, sidecar = [key for key in words if lacks[key]], Path(source).with_suffix(".json").name
    header = f", or its header {Path(source).stem}.hea" if source.lower().endswith(".mat") else ""
    return UserError(
        f"{source}: does not say the {', the '.join(words[key] for key in keys)}; expected "
        f"{', '.join(f'{key}=…' for key in keys)} (--{keys[0]} for the doctor, data.file_{keys[0]} with data=folder), "
        f"or {', '.join(map(repr, keys))} in {sidecar} beside it{header}."
    )


def _agreed(key: str, source: str, inside: Said | None, beside: Said | None, told: Said | None) -> Said | None:
    """What is said of one thing, wherever it is said; two answers are refused."""
    answers = ((inside, "in the file"), (beside, "beside it"), (told, "told"))
    said = [(value, where) for value, where in answers if value is not None]
    for value, where in said[1:]:
        if value != said[0][0]:
            first, second = (" ".join(v) if isinstance(v, tuple) else v for v in (said[0][0], value))
            raise UserError(f"{source}: {key} {first} {said[0][1]}, {second} {where}; expected one.")
    return said[0][0] if said else None


def _sidecar(path: Path) -> Told:
    if not path.is_file():
        return Told()
    try:
        content = json.loads(_text(path, MOST_SIDECAR))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path.name}: not JSON ({reason(error)}); expected an object with fs, units and leads."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name}: {shown(str(content))} found; expected an object with fs, units and leads.")
    where = f"{path.name}: "
    return Told(_fs(content.get("fs"), where), _units(content.get("units"), where), _leads(content.get("leads"), where))


def _fs(value: object, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise UserError(f"{where}fs {shown(str(value))} found; expected a positive number of Hz, below 1 MHz.")
    return float(value)


def _units(value: object, where: str) -> str | None:
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise UserError(f"{where}units {shown(str(value))} found; expected a unit such as mV.")


def _leads(value: object, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise UserError(f"{where}leads {shown(str(value))} found; expected a list of names such as I, II, V1.")
    return tuple(value)


def _leads_first(values: NDArray[Any], leads: int, source: str) -> NDArray[Any]:
    if values.ndim != 2 or leads not in values.shape:
        raise UserError(f"{source}: an array of shape {values.shape} found; expected {leads} leads × samples.")
    if values.shape[0] == values.shape[1]:
        raise UserError(
            f"{source}: an array of shape {values.shape} found, in which leads and samples cannot be told apart; "
            "expected more samples than leads."
        )
    return values if values.shape[0] == leads else values.T


def _array(data: bytes, source: str) -> NDArray[Any]:
    """An array in NumPy's format, from its bytes; the size that it claims is checked before room is made for it."""
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
    held, claimed = len(data) - stream.tell(), dtype.itemsize * int(np.prod([int(n) for n in shape], dtype=object))
    if held != claimed:
        raise UserError(f"{source}: truncated or damaged: {held} bytes of {claimed} found for an array of {shape}.")
    stream.seek(0)
    return np.asarray(npy.read_array(stream, allow_pickle=False))


def _numbers(text: str, separator: str, source: str, line: int) -> NDArray[np.float64]:
    """Columns (C, T) of a table without its header; `line` is where it begins in the file."""
    rows, width = [], 0
    for number, row in enumerate(_fields(io.StringIO(text), separator, source), start=line):
        if not row:
            continue
        width = width or len(row)
        if len(row) != width:
            raise UserError(f"{source}: {len(row)} fields in line {number}; expected {width}, as in those before.")
        try:
            rows.append([float(field) for field in row])
        except ValueError:
            rows.append([_number(field, source, number) for field in row])
    if not rows:
        raise UserError(f"{source}: no samples found; expected a table of one column per lead.")
    return np.array(rows).T


def _fields(lines: Iterable[str], separator: str, source: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, delimiter=separator)
    except csv.Error as error:
        raise UserError(f"{source}: not a table ({reason(error)}); expected a table of one column per lead.") from None


def _number(field: str, source: str, line: int) -> float:
    if not field.strip():
        return np.nan
    try:
        return float(field)
    except ValueError:
        raise UserError(f"{source}: {shown(field)} in line {line}; expected a number, or nothing.") from None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _rate(times: NDArray[np.float64], name: str, source: str) -> tuple[float, tuple[str, ...]]:
    """Samples per second of a column of times, which may be rounded but not jump; and a note of it."""
    found = _TIME.match(name)
    unit = "ms" if found and (found[1] or "").lower() == "ms" else "s"
    if times.size < 2:
        raise UserError(f"{source}: {times.size} times in column {shown(name)}; expected at least two.")
    step = (times[-1] - times[0]) / (times.size - 1)
    steps = np.diff(times)
    if not (step > 0 and steps.min() > 0.5 * step and steps.max() < 1.5 * step):  # NaN fails, too
        raise UserError(
            f"{source}: times in column {shown(name)} are {steps.min():g} to {steps.max():g} {unit} apart; "
            "expected even steps, upwards."
        )
    fs = (1000.0 if unit == "ms" else 1.0) / step
    fs = float(round(fs)) if abs(fs - round(fs)) <= 1e-4 * fs else float(fs)  # times are written with few digits
    return fs, (f"{fs:g} Hz from column {shown(name)}, in {unit}",)


def _text(path: str | Path, most: int) -> str:
    try:
        return load(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{Path(path).name}: not text in UTF-8 (byte {error.start}).") from None
