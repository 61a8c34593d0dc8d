"""A SQLite file as a tracking store: it is made whole or not at all, and a broken one is refused with its cure.

MLflow makes its tables in more than a hundred steps. If a process is stopped between them, or two processes make them
at once, the file stays broken for ever. So the tables are made in another file, under a lock, and the file is moved.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from einthoven.atomic import atomic
from einthoven.errors import UserError, store_reason

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_FIRST_BYTES = b"SQLite format 3"

_TABLES = {"experiments", "runs", "metrics", "params", "tags", "alembic_version"}
"""Some tables that every tracking store has."""


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store; None for every other store."""
    url = _sqlite_url(uri)
    if url is None or url.query or not url.database:
        return None
    return None if url.database.startswith("file:") else Path(url.database)


def _sqlite_url(uri: str) -> URL | None:
    """Return the parts of the address of a SQLite store; None for every other store."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(uri)
    except (SQLAlchemyError, ValueError):
        return None
    return url if url.drivername in ("sqlite", "sqlite+pysqlite") else None


def folder_of_files(file: Path) -> Path:
    """Return the folder with the files of the runs of a SQLite store: ``mlruns`` beside its file."""
    return file.absolute().parent / "mlruns"


def is_store(file: Path) -> bool:
    """Return whether a file is the database of a tracking store."""
    try:
        return "experiments" in _table_names(file)
    except (sqlite3.Error, OSError):
        return False


def check_database(file: Path) -> None:
    """Refuse a file that is not the whole database of a tracking store. A file that does not exist is not refused."""
    if file.is_dir():
        raise UserError(f"{_option(file)}: that is a folder; expected the SQLite file of a tracking store.")
    if not file.is_file() or not file.stat().st_size:
        return
    with file.open("rb") as stream:
        if stream.read(len(_FIRST_BYTES)) != _FIRST_BYTES:
            raise UserError(f"{_option(file)}: that file is no sqlite database; expected that of a tracking store.")
    try:
        names = _table_names(file)
        is_finished = bool(names >= _TABLES and _rows(file, "alembic_version"))
    except sqlite3.OperationalError:
        # Another process holds the file, or it cannot be opened. The store itself says which.
        return
    except sqlite3.DatabaseError as error:
        raise _broken(file, str(error)) from None
    if not names or is_finished:
        return
    if "experiments" not in names:
        raise UserError(
            f"{_option(file)}: a SQLite database of another program, with the table {min(names)}; expected that of a "
            "tracking store, or a file that does not exist yet."
        )
    raise _broken(file, "its tables are not complete")


def explain_failure(file: Path, reason: str) -> UserError:
    """Return the error about a database that MLflow cannot open, for the first line of MLflow's error."""
    try:
        has_runs = bool(_rows(file, "runs"))
    except sqlite3.Error as error:
        return _broken(file, str(error))
    if not has_runs:
        return _broken(file, "its tables are not complete")
    if "schema" in reason:
        return UserError(
            f"{_option(file)}: was made by another version of MLflow; expected the version of now, to which "
            f"`mlflow db upgrade sqlite:///{file}` brings it (make a copy first)."
        )
    return UserError(f"{_option(file)}: MLflow cannot open this database ({reason}); expected a tracking store.")


def _broken(file: Path, reason: str) -> UserError:
    """Return the error about a broken database. What to do depends on whether runs can be lost."""
    try:
        number = _rows(file, "runs")
    except sqlite3.Error:
        number = 0
    content = f"{number:,} runs" if number else "no run that can be read"
    return UserError(
        f"{_option(file)}: this database is broken ({reason}) and has {content}; move it away, and the next training "
        "makes a new one. `einthoven sync FOLDER` sends a run from its folder (outputs/…) again."
    )


def _option(file: Path) -> str:
    return f"tracking.uri=sqlite:///{file}"


def make_database(uri: str) -> None:
    """Make the file of a SQLite store with its tables, unless it exists. Nobody ever sees it half made.

    For a store that is not a SQLite file, nothing is done.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    file = sqlite_file(uri)
    if file is None or _has_content(file):
        return
    try:
        _make_file(file)
        _forget_connections(uri)
    except OSError as error:
        raise _not_writable(file, error.strerror or str(error)) from error
    except (SQLAlchemyError, MlflowException, sqlite3.Error) as error:
        raise _not_writable(file, store_reason(error)) from error


def require_writable(uri: str) -> None:
    """Refuse a SQLite store that this user may not write, before any work is done.

    SQLite writes a file beside the database, so that its folder must be writable, too.
    """
    file = sqlite_file(uri)
    if file is None:
        return
    # A database that does not exist is made, with its folders.
    folder = next(place for place in file.absolute().parents if place.exists())
    for place in (folder, file):
        if place.exists() and not os.access(place, os.W_OK):
            raise _not_writable(file, f"this user may not write {place}")


def _not_writable(file: Path, reason: str) -> UserError:
    return UserError(
        f"{_option(file)}: cannot be written ({reason}); expected a file that may be written, with room on its disk, "
        "or tracking.offline=true to write to the run's folder alone."
    )


def _make_file(file: Path) -> None:
    """Make the file of a SQLite store, unless another process is faster."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # The operating system releases this lock when the process ends, however it ends.
    lock = FileLock(file.with_name(f".{file.name}.lock"))
    with lock:
        try:
            # A process that held the lock before may have made the file.
            if not _has_content(file):
                with atomic(file) as partial:
                    _make_tables(partial, folder_of_files(file))
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)


def _make_tables(file: Path, files: Path) -> None:
    """Let MLflow make its tables in a new file. The files of runs will be in the folder `files`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{file}"
    store = SqlAlchemyStore(uri, str(files))  # type: ignore[no-untyped-call]
    store.engine.dispose()
    # MLflow keeps the engine for this address. A later file of this name needs another one.
    SqlAlchemyStore._engine_map.pop(store.db_uri, None)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget_connections(uri: str) -> None:
    """Close the connections that MLflow keeps to an earlier file at this address. They would still use that file."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = SqlAlchemyStore._engine_map.get(uri)
    if engine is not None:
        engine.dispose()


def _has_content(file: Path) -> bool:
    """Return whether a file exists and is not empty."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


def _table_names(file: Path) -> set[str]:
    with _reading(file) as database:
        return {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}


def _rows(file: Path, table: str) -> int:
    """Return the number of rows of a table."""
    with _reading(file) as database:
        return int(database.execute(f"select count(*) from {table}").fetchone()[0])


def _reading(file: Path) -> contextlib.closing[sqlite3.Connection]:
    """Open a database for reading. It is closed at the end of the block, which `sqlite3` does not do by itself."""
    return contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True))
