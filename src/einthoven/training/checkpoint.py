"""Checkpoints: one safetensors file, tensors as tensors and everything else as JSON in its header.

Nothing is pickled, so a checkpoint from a stranger can be loaded without running their code. The header contains the
SHA-256 of the file, which is compared when the file is read.

A file is written beside its destination, read back, and renamed over it: whoever reads the name finds the old
checkpoint or the new one, whole. `load_last` reads the checkpoint before the last one if the last one is damaged.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from einthoven.errors import UserError
from einthoven.files import BLANK, open_file, parse_json, safetensors_header, sealed_digest

LAST = "last.safetensors"
PREVIOUS = "previous.safetensors"

MOST_BYTES = 1 << 36
"""Bytes of a checkpoint, at most, unless the reader knows better."""

_HEADER = "einthoven.checkpoint"
_SEAL = "einthoven.sha256"
_SEAL_IN_HEADER = re.compile(rb'"einthoven\.sha256":"([0-9a-f]{64})"')

_VERSION = 2
"""Format number: 2 contains a hash, 1 did not."""

# How a node of the tree is written in JSON: a scalar as itself, the rest as an object with one of these keys.
_TENSOR, _DICT, _LIST, _TUPLE = "tensor", "dict", "list", "tuple"


def save(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], meta: Mapping[str, Any], *, previous: Path | None = None
) -> None:
    """Write a checkpoint, atomically.

    Parameters
    ----------
    path
        Destination; its folder is made if it is missing, a file of that name replaced.
    tensors
        State dicts and the like: dicts (keys str or int), lists and tuples, nested, of tensors, numbers,
        strings, bools, None.
    meta
        What a reader may want to know without the tensors, as JSON can express it (tuples return as lists).
    previous
        Name under which the file that is replaced is kept, in the same folder.

    Raises
    ------
    TypeError
        If `tensors` or `meta` holds anything else.
    OSError
        If the file cannot be written, or is not read back as it was written; what was there before stays.
    """
    destination = Path(path)
    flat, structure = flatten_state(tensors)
    header = json.dumps({"version": _VERSION, "structure": structure, "meta": dict(meta)})
    data = safetensors.torch.save(flat, metadata={_HEADER: header, _SEAL: BLANK.decode()})
    position = _seal_position(data[: 8 + int.from_bytes(data[:8], "little")])
    digest = sealed_digest(io.BytesIO(data), position)
    destination.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, for only a rename within one file system is atomic; a fixed name, so that what a
    # killed run leaves is overwritten by the next.
    temporary = destination.with_name(f".{destination.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data[:position])
            file.write(digest.encode())
            file.write(memoryview(data)[position + len(BLANK) :])
            file.flush()
            os.fsync(file.fileno())
        _check_written(temporary, position, digest)
        if previous is not None and destination.exists():
            _keep(destination, previous)
        temporary.replace(destination)
    except OSError as error:  # a full disk does not say which it is
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(destination)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(destination.parent)


def _check_written(path: Path, position: int, digest: str) -> None:
    """Read a file back, from the disk where the system allows it, and compare its hash."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if sealed_digest(file, position) != digest:
            raise OSError(errno.EIO, "what was written is not what is read back")


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, so that its own name can be given to another file."""
    link = previous.with_name(f".{previous.name}.tmp")
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(path)
        link.replace(previous)
        link.unlink(missing_ok=True)  # renaming one name of a file to another of its names does nothing
    except OSError:  # a file system without hard links
        path.replace(previous)


def load(path: str | os.PathLike[str], most: int = MOST_BYTES) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint.

    Parameters
    ----------
    path
    most
        Bytes that the file may have.

    Returns
    -------
    tensors : dict
        As they were saved, on the CPU.
    meta : dict

    Raises
    ------
    UserError
        If the file is missing, damaged, too large, or not a checkpoint of this package.
    """
    source = Path(path)
    if not source.exists():
        raise UserError(f"no checkpoint at {source}")
    content = _read_header(source, most)
    try:
        with safetensors.safe_open(source, framework="pt") as file:
            # Cloned out of the mapped file, which may be replaced while the tensors live on.
            flat = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
        return restore_state(flat, content["structure"]), content["meta"]
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(source, str(error)) from error


def load_last(folder: Path, most: int = MOST_BYTES) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Read the last checkpoint of a run or, if that is damaged, the one before it.

    Returns
    -------
    tensors, meta : dict
        As `load` returns them.
    note : str
        A sentence that says that the last checkpoint was not used, and why; empty if it was used.

    Raises
    ------
    UserError
        If neither can be read.
    """
    try:
        return (*load(folder / LAST, most), "")
    except UserError as error:
        reason = str(error).rstrip(".")
    if not (folder / PREVIOUS).exists():
        raise UserError(f"{reason}.")
    try:
        tensors, meta = load(folder / PREVIOUS, most)
    except UserError as error:
        raise UserError(f"{reason}; the checkpoint before it is of no use either: {error}") from None
    return tensors, meta, f"{reason}; the checkpoint before it, {PREVIOUS}, is used instead."


def load_notes(folder: Path) -> dict[str, Any]:
    """What a run noted in its last checkpoint or, if that cannot be read, in the one before it.

    The hash is compared when the tensors are loaded.

    Raises
    ------
    UserError
        If neither can be read.
    """
    name = LAST if (folder / LAST).exists() or not (folder / PREVIOUS).exists() else PREVIOUS
    try:
        content = _read_header(folder / name, MOST_BYTES, compares=False)
    except UserError:
        if name == PREVIOUS or not (folder / PREVIOUS).exists():
            raise
        content = _read_header(folder / PREVIOUS, MOST_BYTES, compares=False)
    notes: dict[str, Any] = content["meta"]
    return notes


def exists(folder: Path) -> bool:
    """Whether a folder contains a last checkpoint, or the one before it."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def check(path: Path, most: int = MOST_BYTES) -> None:
    """Compare the hash of a checkpoint, without loading its tensors.

    Raises
    ------
    UserError
        As `load`.
    """
    _read_header(path, most)


def _read_header(source: Path, most: int, *, compares: bool = True) -> dict[str, Any]:
    """What a checkpoint holds beside its tensors, after its hash was compared."""
    with open_file(source, most) as file:
        text = safetensors_header(file, str(source))
        stated = _SEAL_IN_HEADER.search(text)
        if compares and stated is not None and sealed_digest(file, stated.start(1)) != stated[1].decode():
            raise _damaged(source, "its content does not have the SHA-256 that it states")
    names = parse_json(text[8:], str(source), finite=False)
    metadata = names.get("__metadata__") if isinstance(names, dict) else None
    header = metadata.get(_HEADER) if isinstance(metadata, dict) else None
    if not isinstance(header, str):
        raise UserError(f"{source} is a safetensors file, but not a checkpoint of einthoven")
    content = parse_json(header, str(source), finite=False)
    if not (isinstance(content, dict) and {"version", "structure", "meta"} <= content.keys()):
        raise _damaged(source, "its header lacks a part")
    if content["version"] not in (1, _VERSION):
        raise UserError(f"{source} has checkpoint version {content['version']}, expected {_VERSION} or 1")
    if content["version"] == _VERSION and stated is None:
        raise _damaged(source, "its SHA-256 is missing")
    return content


def _seal_position(text: bytes) -> int:
    stated = _SEAL_IN_HEADER.search(text)
    assert stated is not None
    return stated.start(1)


def _damaged(source: Path, reason: str) -> UserError:
    return UserError(f"{source} is damaged or not a checkpoint: {' '.join(reason.split())[:200]}")


def flatten_state(state: object) -> tuple[dict[str, Tensor], Any]:
    """Split a nested state into named tensors and a JSON-able description of everything else.

    Parameters
    ----------
    state
        Dicts (keys str or int), lists and tuples, nested, of tensors, numbers, strings, bools and None.

    Returns
    -------
    tensors : dict
        Copies on the CPU, named by their path, such as ``optimizer/state/0/exp_avg``.
    structure
        Opaque; for `restore_state`.

    Raises
    ------
    TypeError
        For anything else: what cannot be restored exactly is not saved.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _describe(state, "", tensors)


def restore_state(tensors: Mapping[str, Tensor], structure: Any) -> Any:
    """Rebuild what `flatten_state` took apart; dicts of any kind come back as dict, in their order."""
    if not isinstance(structure, dict):
        return structure
    ((kind, content),) = structure.items()
    if kind not in (_TENSOR, _DICT, _LIST, _TUPLE):
        raise ValueError(f"a node of kind {kind!r}")
    if kind == _TENSOR:
        return tensors[content]
    if kind == _DICT:
        return {key: restore_state(tensors, value) for key, value in content}
    items = [restore_state(tensors, value) for value in content]
    return tuple(items) if kind == _TUPLE else items


def _describe(node: object, path: str, tensors: dict[str, Tensor]) -> Any:
    # Exact types, for a subclass (a numpy float, a named tuple) would come back as something else.
    if node is None or type(node) in (bool, int, float, str):
        return node
    if isinstance(node, Tensor):
        name = path
        # Keys such as 1 and "1" have the same path; the other name is the format's own.
        while name in tensors or name == "__metadata__":
            name += "~"
        # A copy of its own: the format refuses tensors that share memory, such as tied weights.
        tensors[name] = node.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: name}
    if isinstance(node, Mapping):
        if bad := [key for key in node if type(key) not in (str, int)]:
            raise TypeError(f"a checkpoint holds dicts with keys str or int, found key {bad[0]!r} at {path!r}")
        return {_DICT: [[key, _describe(value, _join(path, key), tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple) and type(node) in (list, tuple):
        kind = _LIST if isinstance(node, list) else _TUPLE
        return {kind: [_describe(value, _join(path, i), tensors) for i, value in enumerate(node)]}
    raise TypeError(f"a checkpoint cannot hold a {type(node).__name__} (at {path!r})")


def _join(path: str, key: str | int) -> str:
    return f"{path}/{key}" if path else str(key)


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; Windows cannot open folders, and need not."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
