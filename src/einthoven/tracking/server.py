"""The tracking store at an address: a client of it, and whether it answers."""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

from einthoven.errors import UserError, first_line
from einthoven.machine import import_large
from einthoven.tracking.database import check_database, explain_failure, folder_of_files, make_database, sqlite_file
from einthoven.tracking.moved import check_place_of_files, follow_files
from einthoven.tracking.runs_list import view_tag

if TYPE_CHECKING:
    from mlflow import MlflowClient

VARIABLE = "MLFLOW_TRACKING_URI"
"""Environment variable with the address of the store of commands that name none."""

# Defaults of environment variables. Values that the user has set stay.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow would try 7 times for 120 s each. The spool repeats what matters, and nothing waits for it.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}

_FIRST_ANSWER_SECONDS = 5.0


def client(uri: str) -> MlflowClient:
    """Return a client of a tracking store, after the store has answered within a few seconds."""
    reach(uri)
    return connect(uri)


def connect(uri: str) -> MlflowClient:
    """Return a client of a tracking store. A SQLite file that does not exist yet is made.

    MLflow's own log lines are switched off, because they would interrupt the progress display. Raises a `UserError` if
    the SQLite file is that of another program, or MLflow cannot open it.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    file = sqlite_file(uri)
    if file is not None:
        check_database(file)
    # MLflow logs the traceback of every error of a database, and raises the error, too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    address = uri if file is None else _absolute_address(uri, file)
    make_database(address)
    _set_address(address)
    return mlflow.MlflowClient(address) if file is None else _open_file(address, file)


def _set_address(address: str) -> None:
    """Tell MLflow the address of the store. The environment variable stays as the user has set it.

    MLflow writes the address into the variable, too. The next command of this process would take it for a wish of the
    user.
    """
    import mlflow

    value_of_user = os.environ.get(VARIABLE)
    mlflow.set_tracking_uri(address)
    if value_of_user is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = value_of_user


def _absolute_address(uri: str, file: Path) -> str:
    """Return the address of a SQLite file that is true in every working folder.

    MLflow keeps a connection and a place of files for each address. After a change of the working folder, a relative
    address would still mean the earlier file.
    """
    address = f"sqlite:///{file.absolute()}"
    # A path with a question mark cannot be written as an address.
    return address if sqlite_file(address) == file.absolute() else uri


def _open_file(uri: str, file: Path) -> MlflowClient:
    """Return a client of a SQLite file. Refuse a file whose tables are those of another version, or not complete."""
    import_large("mlflow.store.tracking.sqlalchemy_store")
    from alembic.util import CommandError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        notice = follow_files(file)
        if notice:
            print(f"einthoven: {notice}", file=sys.stderr)
        mlflow_client = MlflowClient(uri)
        # MLflow's default is a folder in the working folder, which has nothing to do with the store.
        mlflow_client._tracking_client.store.artifact_root_uri = str(folder_of_files(file))
        mlflow_client.search_experiments(max_results=1)
        return mlflow_client
    except (MlflowException, SQLAlchemyError, CommandError, sqlite3.Error) as error:
        raise explain_failure(file, first_line(error)) from None


def reach(uri: str) -> None:
    """Refuse an address where no store answers. MLflow would try for minutes."""
    try:
        if uri.startswith(("http://", "https://")):
            _reach_server(uri)
        elif (file := sqlite_file(uri)) is not None:
            check_database(file)
        elif not uri.startswith("sqlite") and "://" in uri:
            _reach_database(uri)
        elif uri != "databricks":
            raise ValueError("that is no database and no server: MLflow keeps no runs in folders")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UserError(
            f"tracking.uri={without_password(uri)}: no answer ({reason}); expected a tracking store that can be "
            "reached, or tracking.offline=true to write to the run's folder alone."
        ) from None


def _reach_server(uri: str) -> None:
    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=_FIRST_ANSWER_SECONDS):
            pass
    except HTTPError:
        # The server answers, even if it has no such page.
        pass
    except OSError as error:
        # MLflow's own settings decide whether a certificate matters.
        if "CERTIFICATE" not in str(error):
            raise


def _reach_database(uri: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(uri)
        if engine.url.host:
            port = engine.url.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}[engine.name]
            socket.create_connection((engine.url.host, port), timeout=_FIRST_ANSWER_SECONDS).close()
        engine.connect().close()
    except ImportError as error:
        raise ValueError(f"its driver is not installed: {error}") from None
    except SQLAlchemyError as error:
        raise ValueError(str(error).splitlines()[0]) from None


def experiment_id(mlflow_client: MlflowClient, name: str, artifact_location: str | None = None) -> str:
    """Return the id of the experiment with a name. Create the experiment if there is none."""
    from mlflow.exceptions import MlflowException

    # With these tags, the page of MLflow opens on training runs, and `runs_list` shows their results.
    tags = {"mlflow.experimentKind": "custom_model_development"} | view_tag()
    experiment = mlflow_client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(mlflow_client.create_experiment(name, artifact_location, tags=tags))
        except MlflowException:
            # Another run may have created it in the meantime.
            experiment = mlflow_client.get_experiment_by_name(name)
            if experiment is None:
                raise
    check_place_of_files(experiment.artifact_location)
    return str(experiment.experiment_id)


def address_to_store(uri: str) -> str:
    """Return the address of a store as the files of a run contain it.

    The password of ``MLFLOW_TRACKING_URI`` stays in the variable: a run folder can be copied and shared.
    """
    return without_password(uri) if uri == os.environ.get(VARIABLE) else uri


def with_password(stored: str) -> str:
    """Return the address that `address_to_store` has shortened, if ``MLFLOW_TRACKING_URI`` still is that address."""
    usual = os.environ.get(VARIABLE, "")
    return usual if stored == without_password(usual) else stored


def lacks_password(uri: str) -> bool:
    """Return whether `without_password` has shortened an address."""
    return ":…@" in uri or "password=…" in uri


def without_password(uri: str) -> str:
    """Return an address without the password that it may contain. A password can contain a slash."""
    without_user_password = re.sub(r"(://[^:/@]*):.*@", r"\1:…@", uri)
    return re.sub(r"([?&]password=)[^&]*", r"\1…", without_user_password)
