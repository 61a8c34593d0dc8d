"""The files of a SQLite store in a project that has moved.

MLflow writes absolute addresses of files into its database. In a project that has moved, it would make the old folder
anew and put new pictures there, where nobody looks for them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from einthoven.errors import UserError

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns with addresses of files."""

_WAIT_SECONDS = 20.0


def follow_files(database: Path) -> str:
    """Correct the addresses of files in a database that has moved together with them.

    The files of an experiment are in ``FOLDER/mlruns/ID``. If FOLDER does not exist, and ``mlruns`` is beside the
    database, both have moved.

    Returns
    -------
    str
        A sentence about what was corrected; empty if nothing was.
    """
    sentences = []
    with contextlib.closing(sqlite3.connect(database, timeout=_WAIT_SECONDS)) as connection:
        rows = connection.execute("select distinct artifact_location from experiments").fetchall()
        for root in sorted({_root(location) for (location,) in rows if _is_lost(location)}):
            new_root = database.resolve().parent / Path(root).name
            if new_root.is_dir():
                _replace(connection, root, str(new_root))
                sentences.append(f"{database} has moved: the files that it knows in {root} are now in {new_root}.")
    return " ".join(sentences)


def check_place_of_files(location: str) -> None:
    """Refuse the place of the files of an experiment if its folder does not exist any more.

    Parameters
    ----------
    location : str
        ``artifact_location`` of the experiment.

    Raises
    ------
    UserError
    """
    if _is_lost(location):
        root = Path(_root(location))
        raise UserError(
            f"the files of this experiment belong to {root}, and the folder {root.parent} does not exist any more; "
            f"expected that folder, or {root.name} beside the database of the store."
        )


def _is_lost(location: str | None) -> bool:
    """Return whether an address names a folder of this machine that cannot exist."""
    path = _local_path(location or "")
    return path is not None and not path.parent.parent.is_dir()


def _root(location: str) -> str:
    """Return the folder with the folders of the experiments, as the address writes it."""
    return location.rstrip("/").rpartition("/")[0]


def _local_path(location: str) -> Path | None:
    """Return the path of an address of a file; None if it is not on this machine."""
    if location.startswith("/"):
        return Path(location)
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme == "file" and not parts.netloc else None


def _replace(connection: sqlite3.Connection, before: str, after: str) -> None:
    """Replace the beginning of all addresses in one transaction."""
    new_beginning = Path(after).as_uri() if before.startswith("file:") else after
    with connection:
        connection.execute("begin immediate")
        for table, column in _ADDRESSES:
            connection.execute(
                f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                (new_beginning, len(before) + 1, len(before) + 1, f"{before}/"),
            )
