"""Read HDF5 with the h5py package: CODE-15 and files in its layout, and MATLAB 7.3.

A file of CODE-15 contains many records. One of them is named by the file, a slash and its exam_id, such as
``exams_part0.hdf5/590673``. Where the file has no exam_id, the number of the record from 0 takes its place.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.formats.atm_info import INFO_SUFFIX, read_info
from einthoven.data.formats.channels import quote
from einthoven.data.formats.file_signals import MOST_BYTES, FileSignals, Metadata
from einthoven.data.formats.inputs import container_file, record_name
from einthoven.data.formats.metadata import add_metadata, check_metadata
from einthoven.errors import UserError
from einthoven.files import open_descriptor, reason

if TYPE_CHECKING:
    import h5py

MANY = "tracings"
IDENTIFIER = "exam_id"
"""Names of the data sets of CODE-15: records (N, T, leads) or (N, leads, T), and their identifiers (N)."""

ONE = ("signal", "val", "ECG/data")
"""Names of a data set of one record, (leads, T) or (T, leads): of our `.npz`, and of MATLAB files."""

_MOST_IDENTIFIERS = 2**24
_LONGEST_IDENTIFIER = 100  # bytes
_MOST_LEADS = 64

# A byte of a compressed chunk becomes at most this many bytes (Deutsch 1996, RFC 1951).
_MOST_INFLATION = 1032


def read_hdf5(path: str | Path, caller: Metadata) -> FileSignals:
    """Read one record. Samples of CODE-15 before and after it that are 0 in all leads are padding and are removed.

    Raises
    ------
    UserError
        As `read_npy`; also if the file is damaged, contains several records of which none is named, or stores the
        samples elsewhere.
    """
    import h5py

    file = container_file(path) or os.fspath(path)
    member = None if file == os.fspath(path) else Path(path).name
    source = record_name(path)
    try:
        # Opening the file here refuses a pipe or a device, for which HDF5 would wait.
        descriptor, _ = open_descriptor(file)
        os.close(descriptor)
        with h5py.File(file, "r") as content:
            values, notes = _read_values(content, file, member, source)
            stated = _stated_values(content, source)
    except UserError:
        raise
    # h5py raises OSError, KeyError, RuntimeError and others for a damaged file.
    except Exception as error:
        raise UserError(f"{source}: the h5py package cannot read this file ({reason(error)}).") from None
    # A file of MATLAB 7.3 can have the .info of PhysioBank ATM, like one of an older version.
    info_file = Path(file).with_suffix(INFO_SUFFIX)
    if file.lower().endswith(".mat") and info_file.is_file():
        info = read_info(info_file)
        by_lead = values if len(values) == len(info.units) else values.T
        signals = add_metadata(path, info.amplitudes(by_lead, source), info.metadata, caller, info.units)
    else:
        signals = add_metadata(path, values, check_metadata(stated, source), caller)
    return replace(signals, notes=(*signals.notes, *notes))


def _read_values(
    content: h5py.File, file: str, member: str | None, source: str
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the samples of one record, with two axes, and notes."""
    if not _has(content, MANY):
        names = [name for name in ONE if _has(content, name)]
        if not names or member is not None:
            names_in_file = quote(" ".join(content)) if len(content) else "nothing"
            raise UserError(f"{source}: {names_in_file} found; expected a data set {MANY}, or one of {', '.join(ONE)}.")
        data = _data_set(content, names[0], source)
        _check_size(data, data.nbytes, source)
        _check_chunks(data, (0, len(data)) if data.ndim else (0, 0), source)
        return np.asarray(data[()]), ()

    data = _data_set(content, MANY, source)
    if data.ndim != 3:
        raise UserError(f"{source}: {MANY} of shape {data.shape} found; expected records × samples × leads.")
    row = 0
    if member is not None:
        row = _row_of_member(content, file, member, source)
    elif len(data) != 1:
        example = f"{Path(file).name}/{_first_identifier(content, source)}"
        raise UserError(f"{source}: {len(data):,} records found; expected one of them, such as {example}.")
    if not 0 <= row < len(data):
        raise UserError(f"{source}: record {row} of {len(data):,} does not exist.")
    _check_size(data, data.nbytes // len(data), source)
    _check_chunks(data, (row, row + 1), source)
    return _without_padding(np.asarray(data[row]), source)


def _stated_values(content: h5py.File, source: str) -> dict[str, Any]:
    """Return sampling frequency, unit and leads beside a data set `signal`, as an `.npz` states them.

    They are data sets or attributes. MATLAB writes texts in another way, so that its files are not asked.
    """
    import h5py

    if _has(content, MANY) or not _has(content, ONE[0]):
        return {}
    stated: dict[str, Any] = {}
    for name in ("fs", "units", "leads"):
        value: Any = None
        if _has(content, name):
            part = _data_set(content, name, source, "fiuSO")
            is_known = part.dtype.kind != "O" or h5py.check_string_dtype(part.dtype) is not None
            if part.size > _MOST_LEADS or part.dtype.itemsize > _LONGEST_IDENTIFIER or not is_known:
                raise UserError(
                    f"{source}: {name} of {part.dtype} and shape {part.shape} found; expected a number or texts."
                )
            _check_size(part, part.nbytes, source)
            _check_chunks(part, (0, len(part)) if part.ndim else (0, 0), source)
            value = part[()]
        for attributes in (content[ONE[0]].attrs, content.attrs):
            if value is None and name in attributes:
                value = attributes[name]
        value = _plain(value)
        if value not in (None, "", []):
            stated[name] = value
    return stated


def _plain(value: Any) -> Any:
    """Return a value of HDF5 as a number, a text or a list of texts; None if it is something else."""
    if isinstance(value, np.ndarray):
        value = value.item() if value.size == 1 and value.dtype.kind in "fiu" else value.tolist()
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, int | float | str) else None


def _has(content: h5py.File, name: str) -> bool:
    """Return whether a file contains a name. No link is followed, because it can lead to another file or to a pipe."""
    import h5py

    group = content
    *parents, last = name.split("/")
    for parent in parents:
        if not isinstance(group.get(parent, getlink=True), h5py.HardLink):
            return False
        group = group[parent]
        if not isinstance(group, h5py.Group):
            return False
    return last in group


def _data_set(content: h5py.File, name: str, source: str, kinds: str = "fiu") -> h5py.Dataset:
    """Return a data set whose values are in this file. `kinds` are the NumPy kinds that they may have."""
    import h5py

    data = content
    for part in name.split("/"):
        if not isinstance(data, h5py.Group) or not isinstance(data.get(part, getlink=True), h5py.HardLink):
            raise UserError(f"{source}: {name} is a link or no data set; expected the data themselves.")
        data = data[part]
    if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
        raise UserError(f"{source}: the samples of {name} are not in this file; expected them here.")
    if data.dtype.kind not in kinds:
        expected = "real numbers" if kinds == "fiu" else "whole numbers or texts"
        raise UserError(f"{source}: {data.name} of {data.dtype} found; expected {expected}.")
    return data


def _check_size(data: h5py.Dataset, size: int, source: str) -> None:
    """Refuse values of too many bytes. HDF5 decompresses whole chunks."""
    size = max(size, _chunk_bytes(data))
    if size > MOST_BYTES:
        raise UserError(f"{source}: {size:,} bytes found; expected an ECG of at most {MOST_BYTES:,} bytes.")


def _chunk_bytes(data: h5py.Dataset) -> int:
    """Return the size of a chunk after decompression; 0 if the data set has no chunks."""
    return 0 if data.chunks is None else int(np.prod(data.chunks, dtype=object)) * data.dtype.itemsize


def _check_chunks(data: h5py.Dataset, rows: tuple[int, int], source: str) -> None:
    """Refuse compressed chunks of some rows that contain more than a chunk. HDF5 would decompress all of it.

    `rows` are the first row and the end of the rows that will be read.
    """
    import h5py

    if data.chunks is None:
        return
    properties = data.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if filters.count(h5py.h5z.FILTER_DEFLATE) > 1:
        raise UserError(f"{source}: {data.name} is compressed more than once; expected once.")
    height, *others = data.chunks
    first_row = rows[0] // height * height
    axes = [range(first_row, rows[1], height)]
    axes += [range(0, length, step) for length, step in zip(data.shape[1:], others, strict=True)]
    for corner in product(*axes):
        # A small chunk cannot become too large.
        if data.id.get_chunk_info_by_coord(corner).size * _MOST_INFLATION <= MOST_BYTES:
            continue
        # A checksum in the chunk adds four bytes.
        largest = _chunk_bytes(data) + 4
        _, chunk = data.id.read_direct_chunk(corner)
        is_deflated = h5py.h5z.FILTER_DEFLATE in filters
        size = len(zlib.decompressobj().decompress(chunk, largest + 1)) if is_deflated else len(chunk)
        if size > largest:
            raise UserError(f"{source}: a chunk of {data.name} is larger than {largest:,} bytes; expected its size.")


def _row_of_member(content: h5py.File, file: str, member: str, source: str) -> int:
    if not _has(content, IDENTIFIER):
        if not member.isdecimal() or len(member) > 18:
            raise UserError(f"{source}: no data set {IDENTIFIER} found; expected the number of a record, from 0.")
        return int(member)
    status = Path(file).stat()
    rows = _rows_by_identifier(file, status.st_mtime_ns, status.st_size, source)
    if member not in rows:
        raise UserError(f"{source}: no record of this {IDENTIFIER}; expected one such as {next(iter(rows), 'none')}.")
    return rows[member]


@lru_cache(maxsize=4)
def _rows_by_identifier(file: str, _mtime: int, _size: int, source: str) -> dict[str, int]:
    """Return the row of each record. A corpus of many records per file asks for the same file again and again."""
    import h5py

    with h5py.File(file, "r") as content:
        data = _identifier_data(content, source)
        # Texts of any length are read one by one, because each row of a small file can state the same long text.
        is_text = data.dtype.kind == "O"
        identifiers = [_identifier(data[row], source) for row in range(len(data))] if is_text else data[()].tolist()
    rows: dict[str, int] = {}
    for row, identifier in enumerate(identifiers):
        name = _identifier(identifier, source)
        if name in rows:
            raise UserError(f"{source}: {IDENTIFIER} {quote(name)} twice; expected each record once.")
        rows[name] = row
    return rows


def _identifier_data(content: h5py.File, source: str) -> h5py.Dataset:
    """Return the data set of the identifiers."""
    import h5py

    data = _data_set(content, IDENTIFIER, source, "iuSO")
    is_short = data.dtype.itemsize <= _LONGEST_IDENTIFIER
    is_known = data.dtype.kind != "O" or h5py.check_string_dtype(data.dtype) is not None
    if data.ndim != 1 or len(data) > _MOST_IDENTIFIERS or not is_short or not is_known:
        raise UserError(
            f"{source}: {IDENTIFIER} of shape {data.shape} and type {data.dtype} found; expected one whole number per "
            "record."
        )
    _check_size(data, data.nbytes, source)
    _check_chunks(data, (0, len(data)), source)
    return data


def _first_identifier(content: h5py.File, source: str) -> str:
    if not _has(content, IDENTIFIER):
        return "0"
    data = _identifier_data(content, source)
    return _identifier(data[0], source) if len(data) else "0"


def _identifier(value: Any, source: str) -> str:
    """Return an identifier as text."""
    name = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if len(name) > _LONGEST_IDENTIFIER:
        raise UserError(
            f"{source}: {IDENTIFIER} {quote(name)} found; expected at most {_LONGEST_IDENTIFIER} characters."
        )
    return name


def _without_padding(values: NDArray[Any], source: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the samples without those at both ends that are 0 in all leads, and a note."""
    time_axis = int(np.argmax(values.shape))
    is_recorded = (values != 0).any(axis=1 - time_axis)
    if not is_recorded.any():
        raise UserError(f"{source}: only zeros found; expected an ECG.")
    first = int(is_recorded.argmax())
    end = len(is_recorded) - int(is_recorded[::-1].argmax())
    if first == 0 and end == len(is_recorded):
        return values, ()
    note = f"removed the padding with 0: {first:,} samples before and {len(is_recorded) - end:,} after the record"
    return np.take(values, range(first, end), axis=time_axis), (note,)
