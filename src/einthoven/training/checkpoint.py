"""Checkpoints: safetensors files that hold tensors as tensors, and all other values as JSON in the header.

Nothing is pickled, so that loading a stranger's checkpoint runs no code. The header contains the SHA-256 of the file,
which is compared when the file is read.

A new file is written next to its destination, read back, and renamed. A reader finds the whole old checkpoint or the
whole new one. `load_last` reads the checkpoint before the last one if the last one is damaged.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
from torch import Tensor

from einthoven.atomic import atomic
from einthoven.errors import UserError
from einthoven.files import BLANK, open_file, sealed_digest
from einthoven.safetensors_file import safetensors_header, safetensors_shapes
from einthoven.strict_json import parse_json

Content = TypeVar("Content")

LAST = "last.safetensors"
PREVIOUS = "previous.safetensors"

MAX_BYTES = 1 << 36
"""Largest size of a checkpoint, if the reader does not know a smaller one."""

_HEADER = "einthoven.checkpoint"
_SEAL = "einthoven.sha256"
_SEAL_IN_HEADER = re.compile(rb'"einthoven\.sha256":"([0-9a-f]{64})"')

_VERSION = 2
"""Format number. Version 2 contains a hash, version 1 did not."""

# Keys of the JSON objects that describe the nodes of a state. A scalar is written as itself.
_TENSOR = "tensor"
_DICT = "dict"
_LIST = "list"
_TUPLE = "tuple"


def save(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], meta: Mapping[str, Any], *, previous: Path | None = None
) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path : path
        Destination. Its folder is made if it is missing. A file of this name is replaced.
    tensors : mapping
        State dicts: nested dicts (keys str or int), lists and tuples of tensors, numbers, strings, bools and None.
    meta : mapping
        Notes that can be read without the tensors. They are written as JSON, so that tuples come back as lists.
    previous : Path or None
        New name of the file that is replaced, in the same folder.

    Raises
    ------
    TypeError
        If `tensors` or `meta` holds anything else.
    OSError
        If the file cannot be written, or is not read back as it was written. The old file stays.
    """
    destination = Path(path)
    flat, structure = _flatten_state(tensors)
    header = json.dumps({"version": _VERSION, "structure": structure, "meta": dict(meta)})
    data = safetensors.torch.save(flat, metadata={_HEADER: header, _SEAL: BLANK.decode()})
    seal = _SEAL_IN_HEADER.search(data[: 8 + int.from_bytes(data[:8], "little")])
    assert seal is not None
    position = seal.start(1)
    digest = sealed_digest(io.BytesIO(data), position)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with atomic(destination) as partial:
        with partial.open("wb") as file:
            file.write(data[:position])
            file.write(digest.encode())
            file.write(memoryview(data)[position + len(BLANK) :])
            file.flush()
            os.fsync(file.fileno())
        _check_written(partial, position, digest)
        if previous is not None and destination.exists():
            _keep_as(destination, previous, partial.parent)
    _sync_folder(destination.parent)


def _check_written(path: Path, position: int, digest: str) -> None:
    """Read a file back and compare its hash."""
    with path.open("rb") as file:
        # Drop the file from the cache, so that it is read from the disk.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if sealed_digest(file, position) != digest:
            raise OSError(errno.EIO, "the file is not read back as it was written")


def _keep_as(path: Path, previous: Path, folder: Path) -> None:
    """Give a file a second name, so that another file can take its first name. The link is made in a working folder."""
    link = folder / previous.name
    try:
        link.hardlink_to(path)
        # If both names belong to the same file, `replace` does nothing and leaves the link.
        link.replace(previous)
    except OSError:
        # The file system has no hard links.
        path.replace(previous)


def load(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint.

    Parameters
    ----------
    path : path
    max_bytes : int
        Largest size of the file.

    Returns
    -------
    tensors : dict
        The saved state, on the CPU.
    meta : dict
        The saved notes.

    Raises
    ------
    UserError
        If the file is missing, damaged, too large, or not a checkpoint of this package.
    """
    source = Path(path)
    if not source.exists():
        raise UserError(f"no checkpoint at {source}")
    content = _read_header(source, max_bytes)
    try:
        with safetensors.safe_open(source, framework="pt") as file:
            # The tensors are copied, because the file that they are mapped to may be replaced.
            flat = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
        return _restore_state(flat, content["structure"]), content["meta"]
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(source, str(error)) from error


def load_last(folder: Path, max_bytes: int = MAX_BYTES) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Read the last checkpoint of a run or, if that is damaged, the one before it.

    Returns
    -------
    tensors, meta : dict
        As `load` returns them.
    warning : str
        Says that the last checkpoint was not used, and why. Empty if it was used.

    Raises
    ------
    UserError
        If neither can be read.
    """
    try:
        return (*load(folder / LAST, max_bytes), "")
    except UserError as error:
        reason = str(error).rstrip(".")
    if not (folder / PREVIOUS).exists():
        raise UserError(f"{reason}.")
    try:
        tensors, meta = load(folder / PREVIOUS, max_bytes)
    except UserError as error:
        raise UserError(f"{reason}; the checkpoint before it is of no use either: {error}") from None
    return tensors, meta, f"{reason}; the checkpoint before it, {PREVIOUS}, is used instead."


def load_notes(folder: Path) -> dict[str, Any]:
    """Read the notes of the last checkpoint of a run or, if they cannot be read, of the one before it.

    The hash is not compared. This is done when the tensors are loaded.

    Raises
    ------
    UserError
        If neither can be read.
    """

    def read(file: Path) -> dict[str, Any]:
        return _read_header(file, MAX_BYTES, checks_hash=False)["meta"]

    return _read_one(folder, read)


def load_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the model in the last checkpoint or, if it cannot be read, in the one before it, by names.

    Raises
    ------
    UserError
        If neither can be read.
    """

    def read(file: Path) -> dict[str, tuple[int, ...]]:
        with open_file(file, MAX_BYTES) as opened:
            shapes = safetensors_shapes(opened, str(file))
        prefix = "model/"
        return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}

    return _read_one(folder, read)


def _read_one(folder: Path, read: Callable[[Path], Content]) -> Content:
    """Read from the last checkpoint of a run or, if it cannot be read, from the one before it."""
    last = folder / LAST
    previous = folder / PREVIOUS
    if not previous.exists():
        return read(last)
    if not last.exists():
        return read(previous)
    try:
        return read(last)
    except UserError:
        return read(previous)


def exists(folder: Path) -> bool:
    """Return whether a folder contains a last checkpoint, or the one before it."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def check(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Compare the hash of a checkpoint without loading its tensors.

    Raises
    ------
    UserError
        Same errors as `load`.
    """
    _read_header(path, max_bytes)


def _read_header(source: Path, max_bytes: int, *, checks_hash: bool = True) -> dict[str, Any]:
    """Return the version, the structure and the notes of a checkpoint, after its hash was compared."""
    with open_file(source, max_bytes) as file:
        text = safetensors_header(file, str(source))
        stated = _SEAL_IN_HEADER.search(text)
        if checks_hash and stated is not None and sealed_digest(file, stated.start(1)) != stated[1].decode():
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


def _damaged(source: Path, reason: str) -> UserError:
    return UserError(f"{source} is damaged or not a checkpoint: {' '.join(reason.split())[:200]}")


def _flatten_state(state: object) -> tuple[dict[str, Tensor], Any]:
    """Split a nested state into named tensors and a description of everything else, which JSON can express.

    The state holds dicts (keys str or int), lists and tuples of tensors, numbers, strings, bools and None. The tensors
    are copies on the CPU, named by their path, such as ``optimizer/state/0/exp_avg``. The description is the argument
    of `_restore_state`. Anything else is a TypeError, because it could not be restored exactly.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _describe(state, "", tensors)


def _restore_state(tensors: Mapping[str, Tensor], structure: Any) -> Any:
    """Rebuild a state from the results of `_flatten_state`. A mapping of any kind comes back as a dict."""
    if not isinstance(structure, dict):
        return structure
    ((kind, content),) = structure.items()
    if kind not in (_TENSOR, _DICT, _LIST, _TUPLE):
        raise ValueError(f"a node of kind {kind!r}")
    if kind == _TENSOR:
        return tensors[content]
    if kind == _DICT:
        return {key: _restore_state(tensors, value) for key, value in content}
    items = [_restore_state(tensors, value) for value in content]
    return tuple(items) if kind == _TUPLE else items


def _describe(node: object, path: str, tensors: dict[str, Tensor]) -> Any:
    """Return the description of a node, and add its tensors to `tensors`."""
    # Only exact types: a subclass, such as a NumPy float or a named tuple, would come back as another type.
    if node is None or type(node) in (bool, int, float, str):
        return node
    if isinstance(node, Tensor):
        name = path
        # Keys such as 1 and "1" give the same path. The format reserves `__metadata__`.
        while name in tensors or name == "__metadata__":
            name += "~"
        # Each tensor is copied, because the format refuses tensors that share memory, such as tied weights.
        tensors[name] = node.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: name}
    if isinstance(node, Mapping):
        for key in node:
            if type(key) not in (str, int):
                raise TypeError(f"a checkpoint holds dicts with keys str or int, found key {key!r} at {path!r}")
        return {_DICT: [[key, _describe(value, _join(path, key), tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple) and type(node) in (list, tuple):
        kind = _LIST if isinstance(node, list) else _TUPLE
        return {kind: [_describe(value, _join(path, i), tensors) for i, value in enumerate(node)]}
    raise TypeError(f"a checkpoint cannot hold a {type(node).__name__} (at {path!r})")


def _join(path: str, key: str | int) -> str:
    return f"{path}/{key}" if path else str(key)


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Windows cannot open folders and does not need this."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
