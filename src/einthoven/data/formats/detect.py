"""Detect the format of a file by its first bytes. The suffix decides only where the bytes leave it open."""

from __future__ import annotations

import os
import re
from pathlib import Path

from einthoven.data.formats.channels import quote
from einthoven.data.formats.dicom import is_dicom
from einthoven.data.formats.inputs import container_file
from einthoven.data.formats.table_text import decode_text
from einthoven.data.formats.watch import RATE_LINE
from einthoven.data.formats.wfdb_header import header_file
from einthoven.errors import UserError
from einthoven.files import open_descriptor, read_bytes, reason

HEAD_BYTES = 2**16
"""Number of bytes that are looked at."""

# Number of bytes in which an export of an Apple Watch states its rate.
_WATCH_BYTES = 4096

# Magic bytes: position, bytes, name of the format.
_MAGIC = (
    (0, b"\xffBIOSEMI", "BDF"),
    (0, b"MATLAB 7.3", "HDF5"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    *((2**power, b"\x89HDF\r\n\x1a\n", "HDF5") for power in range(9, 15)),
    (0, b"\x93NUMPY", "npy"),
    (126, b"IM", "mat"),
    (126, b"MI", "mat"),
    (16, b"SCPECG", "SCP-ECG"),
)

# Formats that are recognized, but not read: first bytes and name.
_NOT_READ = (
    (b"ISHNE1.0", "ISHNE"),
    (b"ANN  1.0", "ISHNE (annotations)"),
    (b"\x40\x20MFR", "MFER"),
    (b"\x1f\x8b", "gzip"),
    (b"%PDF", "PDF"),
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\xd0\xcf\x11\xe0", "Excel (.xls)"),
)
_NOT_READ_SUFFIXES = {".mwf": "MFER"}
_NOT_READ_XML = {b"CardiologyXML": "GE CardioSoft", b"html": "HTML"}

# First bytes of the small text that stands for a large file which is not here, and the command that fetches the file.
_POINTERS = ((b"version https://git-lfs", "git lfs pull"), (b"/annex/objects/", "git annex get"))

# A zip archive starts with the header of its first member. The length of the name and the name are in it.
_ZIP = b"PK\x03\x04"
_ZIP_NAME_LENGTH = slice(26, 28)
_ZIP_NAME = 30

# The suffix of formats that have no magic bytes, or files too short for them: the reader reports what is wrong.
_BY_SUFFIX = {
    ".edf": "EDF",
    ".bdf": "BDF",
    ".dcm": "DICOM",
    ".xml": "XML",
    ".scp": "SCP-ECG",
    ".hdf5": "HDF5",
    ".h5": "HDF5",
    ".npy": "npy",
    ".npz": "npz",
    ".mat": "mat",
    ".csv": "table",
    ".tsv": "table",
    ".txt": "table",
    ".asc": "table",
}

_EDF_START = re.compile(rb"0 {7}.{176}\d{1,7} *", re.DOTALL)
_ROOT_ELEMENT = re.compile(rb"<([A-Za-z_][\w.:-]*)")
_XML_COMMENT = re.compile(rb"<!--.*?(?:-->|$)|<[!?][^>]*>", re.DOTALL)
_CONTROL_BYTES = bytes(byte for byte in range(32) if byte not in b"\t\n\v\f\r\x1a")


def is_wfdb(path: str | Path) -> bool:
    """Decide whether a path names a WFDB record: its header, a file with a header beside it, or their stem.

    A path that does not exist counts as the stem of a record, whose header is missing.
    """
    file = os.fspath(path)
    suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122
    if suffix == ".hea":
        return True
    # For the usual suffixes of other formats, no header is searched.
    if suffix in _BY_SUFFIX and suffix != ".mat":
        return False
    if os.path.isfile(header_file(file)):  # noqa: PTH113
        return True
    return not os.path.lexists(file) and container_file(file) is None


def detect_format(path: str | Path) -> str:
    """Return the name of the format of a file.

    Parameters
    ----------
    path : path
        An existing file that is not part of a WFDB record.

    Returns
    -------
    str
        ``EDF``, ``BDF``, ``DICOM``, ``XML``, ``SCP-ECG``, ``HDF5``, ``npy``, ``npz``, ``mat``, ``table`` or ``watch``.

    Raises
    ------
    UserError
        If the file cannot be read, has a format that is not read, or has none that is known.
    """
    name = Path(path).name
    if container_file(path) is not None:
        return "HDF5"
    head = _read_head(path)
    if not head:
        raise UserError(f"{name}: empty; expected an ECG.")
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
    for magic, format_name in _NOT_READ:
        if head.startswith(magic):
            raise _not_read(name, format_name)
    for magic, command in _POINTERS:
        if head.startswith(magic):
            raise UserError(f"{name}: a pointer to the file, which is not here; '{command}' fetches it.")
    for position, magic, format_name in _MAGIC:
        if head.startswith(magic, position):
            return format_name
    if head.startswith(_ZIP):
        name_length = int.from_bytes(head[_ZIP_NAME_LENGTH], "little")
        if suffix == ".npz" or head[_ZIP_NAME : _ZIP_NAME + name_length].endswith(b".npy"):
            return "npz"
        raise _not_read(name, "zip or Excel")
    if _EDF_START.match(head):
        return "EDF"
    if _starts_like_scp(head):
        return "SCP-ECG"
    if is_dicom(head):
        return "DICOM"

    # Text is XML or a table. The bytes of UTF-16 count as text, too.
    by_suffix = _BY_SUFFIX.get(suffix)
    text = _plain_text(head)
    if text is not None and text.lstrip()[:1] == b"<":
        _check_root_element(text, name)
        return "XML"
    if text is not None and RATE_LINE.search(decode_text(head[:_WATCH_BYTES])):
        return "watch"
    # The other formats are binary. Only a header of EDF that is cut off can be text, without an end of line.
    is_table = text is not None and re.search(rb"\d", text) is not None
    if is_table and b"\n" in head and by_suffix is not None:
        return "table"
    if by_suffix is not None:
        return by_suffix
    if is_table:
        return "table"
    if suffix in _NOT_READ_SUFFIXES:
        raise _not_read(name, _NOT_READ_SUFFIXES[suffix])
    if suffix == ".dat":
        raise UserError(
            f"{name}: no header ({Path(name).with_suffix('.hea')}) beside it; expected the header of a WFDB record. "
            "The .dat of an Edan electrocardiograph is another format, which is not read."
        )
    start = quote(head[:8].decode("latin-1"))
    raise UserError(
        f"{name}: {start} found at its start, which belongs to no known format; expected the stem of a WFDB record, or "
        f"a file such as {' '.join(_BY_SUFFIX)}."
    )


def _read_head(path: str | Path) -> bytes:
    try:
        descriptor, size = open_descriptor(os.fspath(path))
        try:
            return read_bytes(descriptor, min(size, HEAD_BYTES))
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}).") from None


def _starts_like_scp(head: bytes) -> bool:
    """Decide whether a file is SCP-ECG without the letters SCPECG, which older versions leave out.

    The file starts with a checksum and its length; the pointer section follows, which begins with a checksum, its
    number 0 and its length (16 bytes, and 10 for each of at least 12 sections).
    """
    section_number = int.from_bytes(head[8:10], "little")
    length = int.from_bytes(head[10:14], "little")
    version = head[14:15]
    is_first_section = len(head) > 22 and section_number == 0 and 136 <= length <= 2000 and length % 10 == 6
    return is_first_section and version in (b"\x0a", b"\x0b", b"\x0c", b"\x0d", b"\x14")


def _plain_text(head: bytes) -> bytes | None:
    """Return the bytes of a text without the zero bytes of UTF-16, or None if they are not text."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head[2:].replace(b"\0", b"")
    if head.translate(None, _CONTROL_BYTES) != head:
        return None
    return head.removeprefix(b"\xef\xbb\xbf")


def _check_root_element(text: bytes, name: str) -> None:
    """Refuse an XML format that is known, but not read."""
    root = _ROOT_ELEMENT.search(_XML_COMMENT.sub(b"", text))
    format_name = _NOT_READ_XML.get(root[1].rpartition(b":")[2]) if root else None
    if format_name is not None:
        raise _not_read(name, format_name)


def _not_read(name: str, format_name: str) -> UserError:
    return UserError(
        f"{name}: a file of the format {format_name}, which is not read; expected an export of the ECG as CSV, EDF, "
        "DICOM, SCP-ECG, HL7 aECG or WFDB."
    )
