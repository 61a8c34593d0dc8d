"""Combine the numbers of a file with their sampling frequency, units and lead names.

Each of these three values has up to three sources: the file itself (names and units in a header row, a time column,
members of an ``.npz``), a sidecar (``stem.json`` with the keys fs, units and leads), and the caller. If two sources
state a value, they have to agree. If none states it, the file is refused.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.channels import is_same_unit, quote
from einthoven.data.formats.file_signals import FileSignals, Metadata, check_sample_count, read_ordinary_file
from einthoven.data.formats.inputs import record_name, sidecar_file
from einthoven.data.formats.rate import rate_notes, settle_rate
from einthoven.errors import UserError
from einthoven.files import reason
from einthoven.functional.leads import canonical_lead

MOST_SIDECAR = 2**20
"""Largest size of a sidecar in bytes."""

Value = TypeVar("Value")


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
        if value != first_value and not _means_the_same(key, value, first_value):
            first = _as_text(first_value)
            second = f"{key} {_as_text(value)} {place}" if place else f"{caller.option(key, value)} given"
            raise UserError(f"{source}: {key} {first} {first_place}, {second}; expected one value.")
    return first_value


def _means_the_same(key: str, value: object, other: object) -> bool:
    """Decide whether two different values are names of one unit."""
    return key == "units" and is_same_unit(str(value), str(other))


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


def _read_text(path: str | Path, max_bytes: int) -> str:
    try:
        return read_ordinary_file(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{Path(path).name}: not text in UTF-8 (byte {error.start}).") from None
