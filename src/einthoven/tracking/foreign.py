"""What the folder of a run may ask for outside of itself: it can come from a stranger.

The folder names the store that the run is sent to, and the files that are sent. Records of the reader are evaluated, so
a stranger must not choose who receives what comes out, nor which files are read and sent.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from einthoven import trust
from einthoven.errors import UserError
from einthoven.files import open_file
from einthoven.tracking.run_folder import LANES
from einthoven.tracking.server import shown

_LONGEST_PATH = 1000  # characters
_LONGEST_ENTRY = 1 << 26  # bytes
_MOST_ENTRIES = 1 << 32


def check_store(uri: str, named_in: Path) -> None:
    """Refuse a tracking store that is not on this machine, and one that would be made outside of the working folder.

    Accepted are the store of ``MLFLOW_TRACKING_URI``, a file in the working folder, and a file that is a store already.

    Parameters
    ----------
    uri : str
        As a file of a run folder states it.
    named_in : Path
        That file.

    Raises
    ------
    UserError
    """
    if is_trusted_address(uri) or uri == os.environ.get("MLFLOW_TRACKING_URI"):
        return
    file = _file_of(uri)
    if file is not None and (is_in_working_folder(file) or _is_store(file)):
        return
    raise UserError(
        f"{named_in}: names the tracking store {trust.shown(shown(uri))}, which is not a file of this machine that "
        f"holds runs; add --trust {trust.shown(shown(uri))} to the command if results may be written there."
    )


def check_entries(folder: Path) -> None:
    """Refuse entries that would send files from outside of the folder, or send files to a place of a stranger's choice.

    Parameters
    ----------
    folder : Path
        Of the run.

    Raises
    ------
    UserError
        Names the file with the entry.
    """
    for name in LANES:
        path = folder / "tracking" / f"{name}.jsonl"
        if not path.exists():
            continue
        for entry in _entries(path):
            if "run" in entry:
                check_location(entry["run"].get("artifact_location"), path)
            for kind in ("file", "model"):
                if kind in entry:
                    _check_path(folder, entry[kind], path)


def check_location(location: object, named_in: Path) -> None:
    """Refuse a place for files of runs that is neither in the working folder nor trusted.

    Raises
    ------
    UserError
    """
    if location is None or is_trusted_address(location):
        return
    text = str(location)
    if "://" not in text and is_in_working_folder(Path(text)):
        return
    raise UserError(
        f"{named_in}: names {trust.shown(text)} as the place for files of runs; "
        f"add --trust {trust.shown(text)} to the command if results may be written there."
    )


def is_trusted_address(address: object) -> bool:
    """Whether the user has trusted this very address; a password in it need not be typed again."""
    return str(address) in trust.trusted() or shown(str(address)) in trust.trusted()


def is_in_working_folder(path: Path) -> bool:
    """Whether a path leads into the folder that the command runs in."""
    try:
        return path.resolve().is_relative_to(Path.cwd())
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a circle of links
        return False


def _file_of(uri: str) -> Path | None:
    """The file of a SQLite store; None for every other store."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(uri)
    except (SQLAlchemyError, ValueError):
        return None
    if url.drivername not in ("sqlite", "sqlite+pysqlite") or url.query or not url.database:
        return None
    return None if url.database.startswith("file:") else Path(url.database)


def _is_store(file: Path) -> bool:
    """Whether a file is the database of a tracking store."""
    if not file.is_file():
        return False
    try:
        with sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True) as database:
            found = database.execute("select 1 from sqlite_master where name = 'experiments'").fetchone()
    except (sqlite3.Error, OSError):
        return False
    return found is not None


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """Entries of a spool; the last line of a run that was killed may be half of one."""
    with open_file(path, _MOST_ENTRIES) as file:
        while line := file.readline(_LONGEST_ENTRY):
            if len(line) == _LONGEST_ENTRY:
                raise UserError(f"{path}: an entry of more than {_LONGEST_ENTRY:,} bytes; expected those of a run.")
            if not line.endswith(b"\n"):
                return
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            if not isinstance(entry, dict) or not all(isinstance(content, dict | list) for content in entry.values()):
                raise UserError(f"{path}: damaged; expected an entry of a run in every line.")
            yield entry


def _check_path(folder: Path, content: Any, named_in: Path) -> None:
    """Refuse a file that is not in the folder, and a staged one that has no folder of its own there."""
    own = (folder / "tracking").resolve()
    name = content.get("path") if isinstance(content, dict) else None
    is_own = False
    if isinstance(name, str) and len(name) < _LONGEST_PATH and "\0" not in name:
        place = (own / name).resolve()
        # A staged file is removed with the folder that it is in when it has been sent.
        if content.get("staged", True):
            is_own = place.parent.parent == own / "files"
        else:
            is_own = place.is_relative_to(folder.resolve())
    if not is_own:
        raise UserError(
            f"{named_in}: names the file {trust.shown(name)}, which is not one of this run; expected its own files."
        )
