"""Checkpoints: one safetensors file, tensors as tensors and everything else as JSON in its header.

Nothing is pickled, so a checkpoint from a stranger can be loaded without running their code. A file is
written beside its destination and renamed over it: whoever reads the name finds the old checkpoint or the new
one, whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from einthoven.errors import UserError

_HEADER = "einthoven.checkpoint"
_VERSION = 1

# How a node of the tree is written in JSON: a scalar as itself, the rest as an object with one of these keys.
_TENSOR, _DICT, _LIST, _TUPLE = "tensor", "dict", "list", "tuple"


def save(path: str | os.PathLike[str], tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
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

    Raises
    ------
    TypeError
        If `tensors` or `meta` holds anything else.
    """
    destination = Path(path)
    flat, structure = flatten_state(tensors)
    header = json.dumps({"version": _VERSION, "structure": structure, "meta": dict(meta)})
    destination.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, for only a rename within one file system is atomic; a fixed name, so that what a
    # killed run leaves is overwritten by the next.
    temporary = destination.with_name(f".{destination.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(safetensors.torch.save(flat, metadata={_HEADER: header}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(destination)
    except OSError as error:  # a full disk does not say which it is
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(destination)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(destination.parent)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint.

    Returns
    -------
    tensors : dict
        As they were saved, on the CPU.
    meta : dict

    Raises
    ------
    UserError
        If the file is missing, cut short, or not a checkpoint of this package.
    """
    source = Path(path)
    if not source.is_file():
        raise UserError(f"no checkpoint at {source}")
    try:
        with safetensors.safe_open(source, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            # Cloned out of the mapped file, which may be replaced while the tensors live on.
            flat = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{source} is damaged or not a checkpoint: expected a whole safetensors file ({error})"
        ) from error
    if header is None:
        raise UserError(f"{source} is a safetensors file, but not a checkpoint of einthoven")
    content = json.loads(header)
    if content["version"] != _VERSION:
        raise UserError(f"{source} has checkpoint version {content['version']}, expected {_VERSION}")
    return restore_state(flat, content["structure"]), content["meta"]


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
