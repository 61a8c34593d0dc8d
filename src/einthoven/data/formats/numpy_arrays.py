"""Read ``.npy`` and ``.npz``: arrays of numbers, with a sampling frequency, units and lead names from other places."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from einthoven.data.formats.channels import quote
from einthoven.data.formats.file_signals import MOST_BYTES, FileSignals, Metadata, read_ordinary_file
from einthoven.data.formats.metadata import add_metadata, check_metadata
from einthoven.errors import UserError
from einthoven.files import BAD_ARRAY_HEADER, reason


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
