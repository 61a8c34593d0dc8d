"""Stores and folders that the folder of a run names, where it can come from a stranger."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from einthoven import trust
from einthoven.errors import UserError
from einthoven.tracking.server import shown


def check_store(uri: str, named_in: Path) -> None:
    """Refuse a tracking store that is not on this machine, and one that would be made outside of the working folder.

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
    if is_trusted_address(uri) or not needs_trust(uri):
        return
    raise UserError(
        f"{named_in}: names the tracking store {trust.shown(shown(uri))}, which is not a file of this machine that "
        f"holds runs; add --trust {trust.shown(shown(uri))} to the command if results may be written there."
    )


def needs_trust(uri: str) -> bool:
    """Whether a run folder that names this store takes ``--trust``.

    It does not for the store of ``MLFLOW_TRACKING_URI``, for a file in the working folder, and for a file of this
    machine that is a store already.
    """
    if uri == os.environ.get("MLFLOW_TRACKING_URI"):
        return False
    file = _file_of(uri)
    return file is None or not (is_in_working_folder(file) or _is_store(file))


def trusted_for(uri: str) -> list[str]:
    """What a command takes behind ``--trust`` to use the store of a run; the password of an address is not told."""
    return [shown(uri)] if needs_trust(uri) else []


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
