"""The files of a SQLite store in a project that was moved or copied.

MLflow writes absolute addresses of files into its database. In a project that was moved, it would make the old folder
anew and put new pictures there, where nobody looks for them. In a copy, it would put them into the other project.
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
    """Correct the addresses of files in a database that was moved or copied together with them, and say so.

    The files of an experiment are in ``FOLDER/mlruns/ID``. If FOLDER does not exist, and ``mlruns`` is beside the
    database, both were moved. If ``mlruns/ID`` beside the database holds the files of one of its runs, both were moved
    or copied. The same holds for the end of another place of files, such as ``FOLDER/files``.
    """
    sentences = []
    with contextlib.closing(sqlite3.connect(database, timeout=_WAIT_SECONDS)) as connection:
        folder = database.resolve().parent
        moves = {}
        for number, location in connection.execute("select experiment_id, artifact_location from experiments"):
            place_beside = _find_beside(connection, number, location, folder)
            if place_beside is not None and place_beside.parent.parent != folder:
                moves[location.rstrip("/")] = place_beside
            elif place_beside is not None or _is_lost(location):
                moves[_root(location)] = folder / Path(_root(location)).name
        for before, after in sorted(moves.items()):
            if after.is_dir():
                _replace(connection, before, str(after))
                sentences.append(
                    f"{database} was moved or copied: the files that it knew in {before} are those in {after}."
                )
    return " ".join(sentences)


def check_place_of_files(location: str) -> None:
    """Refuse the ``artifact_location`` of an experiment if its folder does not exist any more."""
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


def _find_beside(connection: sqlite3.Connection, experiment: int, location: str | None, folder: Path) -> Path | None:
    """Return the place in `folder`, that of the database, with files of an experiment, if its address is another one.

    The last parts of the address are the path of the place in `folder`.
    """
    path = _local_path(location or "")
    if path is None:
        return None
    for length in range(1, len(path.parts)):
        place = folder.joinpath(*path.parts[-length:])
        if not place.is_dir() or (path.is_dir() and place.samefile(path)):
            continue
        # Another database may have an experiment of this number there. The names of runs are unique.
        runs = connection.execute("select run_uuid from runs where experiment_id = ?", (experiment,))
        if any((place / run_id).is_dir() for (run_id,) in runs):
            return place
    return None


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
    """Replace the folder `before`, with which addresses begin, in one transaction."""
    new_beginning = Path(after).as_uri() if before.startswith("file:") else after
    with connection:
        connection.execute("begin immediate")
        for table, column in _ADDRESSES:
            connection.execute(
                f"update {table} set {column} = ? || substr({column}, ?) where substr({column} || '/', 1, ?) = ?",
                (new_beginning, len(before) + 1, len(before) + 1, f"{before}/"),
            )
