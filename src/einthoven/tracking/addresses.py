"""Where the tracking store of a run is, seen from any working folder, and after its project has moved.

``tracking/run.json`` in the folder of a run contains the address of the store. A SQLite file has two more addresses
there: its absolute path, and its path relative to the folder of the run, which stays true in a project that moves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from einthoven.atomic import write_text
from einthoven.command_line import command
from einthoven.errors import UserError, first_line
from einthoven.files import check_ordinary, read_file, seen_from_here
from einthoven.tracking.database import sqlite_file
from einthoven.tracking.moved import check_place_of_files
from einthoven.tracking.places import check_store, trusted_for
from einthoven.tracking.run_folder import FOLDERS
from einthoven.tracking.server import address_to_store, connect, with_password, without_password

IDS_LIMIT = 1 << 20
"""Largest size of ``run.json`` in bytes."""

IDS = "run.json"
"""File in ``tracking/`` with the ids of a run and the addresses of its store."""

_NAMES = ("uri", "run_id", "experiment_id")
_ABSOLUTE = "store_absolute"
_RELATIVE = "store_relative"


def ids_file(folder: Path) -> Path:
    """Return the file with the ids of the run of a folder."""
    return folder / "tracking" / IDS


def write_ids(tracking: Path, uri: str, run_id: str, experiment_id: str) -> None:
    """Write the ids of a run and the addresses of its store into its ``tracking/``.

    The ids are empty if the run was not sent.
    """
    content = {"uri": address_to_store(uri), "run_id": run_id, "experiment_id": experiment_id}
    file = sqlite_file(uri)
    if file is not None:
        content[_ABSOLUTE] = str(file.resolve())
        content[_RELATIVE] = os.path.relpath(file.resolve(), tracking.resolve().parent)
    write_text(tracking / IDS, json.dumps(content))


def read_ids(folder: Path) -> dict[str, str]:
    """Read ``uri``, ``run_id`` and ``experiment_id`` of the run of a folder. The ids are empty if it was not sent.

    The address is that of the store as it is now, seen from the working folder. The store may be missing. Raises a
    `UserError` if the folder is not that of a run.
    """
    file = ids_file(folder)
    if not file.exists():
        raise UserError(f"{folder}: no tracking/run.json there; expected the folder of a run (outputs/…).")
    check_ordinary(folder, FOLDERS)
    text = read_file(file, IDS_LIMIT)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not all(isinstance(content.get(name), str) for name in _NAMES):
        raise UserError(f"{file}: damaged; expected {', '.join(_NAMES)} of a run.")
    ids = {name: content[name] for name in _NAMES}
    ids["uri"] = with_password(ids["uri"])
    candidates = _candidates(folder, content)
    if candidates:
        existing = [path for path in candidates if path.is_file()]
        ids["uri"] = _address((existing or candidates)[0], ids["uri"])
    return ids


def _candidates(folder: Path, content: Mapping[str, object]) -> list[Path]:
    """Return the places where a SQLite store may be, the likely one first. There are none for other stores."""
    file = sqlite_file(str(content["uri"]))
    if file is None:
        return []
    relative = content.get(_RELATIVE)
    absolute = content.get(_ABSOLUTE)
    if not (isinstance(relative, str) and isinstance(absolute, str)):
        # An earlier version wrote only the address as it was seen from the working folder.
        return [file]
    beside = Path(os.path.normpath(folder.resolve() / relative))
    # The relative path wins, unless its folder does not exist: then the folder of the run has moved alone.
    return [beside, Path(absolute)] if beside.parent.is_dir() else [Path(absolute), beside]


def _address(file: Path, written: str) -> str:
    """Return the address of a SQLite file: as it was written if that is the same file, or else as short as possible."""
    written_file = sqlite_file(written)
    if written_file is not None and written_file.resolve() == file.resolve():
        return written
    return f"sqlite:///{seen_from_here(file)}"


def require_store(folder: Path, uri: str) -> None:
    """Refuse the store of a run if it is a SQLite file that does not exist. Only `sync` makes it anew."""
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise UserError(
            f"{folder}: its tracking store {file.absolute()} does not exist; expected that file, or "
            f"{command('sync', str(folder), trusted=trusted_for(uri))} first, which makes it anew and sends the run."
        )


def require_run(folder: Path, uri: str = "", run_id: str = "") -> None:
    """Refuse a run that its store does not have any more, before any work is lost. A server is not asked.

    A run that was never sent is not refused. `uri` and `run_id` are what is known of a run whose folder has lost its
    ``tracking/``.
    """
    if ids_file(folder).exists():
        ids = read_ids(folder)
        uri = ids["uri"]
        run_id = ids["run_id"]
    if not run_id:
        return
    require_store(folder, uri)
    # The folder can come from a stranger. Opening a store can change it.
    check_store(uri, ids_file(folder))
    if not has_run(uri, run_id):
        raise UserError(
            f"{folder}: its tracking store {without_password(uri)} does not have its run {run_id}; "
            f"{command('sync', str(folder))} sends the run again."
        )


def has_run(uri: str, run_id: str) -> bool:
    """Return whether a SQLite store has a run. Other stores are not asked: they may be down for a while.

    Raises a `UserError` if the store cannot be read, or the folder of the files of the run does not exist any more.
    """
    if sqlite_file(uri) is None:
        return True
    from mlflow.exceptions import MlflowException

    try:
        client = connect(uri)
        run = client.get_run(run_id)
        check_place_of_files(client.get_experiment(run.info.experiment_id).artifact_location)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise UserError(f"{without_password(uri)}: {first_line(error)}.") from None
        return False
    return True
