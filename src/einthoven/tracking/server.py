"""The tracking store at an address: a client of it, and whether anybody answers there."""

from __future__ import annotations

import logging
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

from einthoven.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {  # what the user has set stays
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's own: 7 retries of 120 s each. The spool retries what matters, and need not wait for it.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
_PATIENCE = 5.0  # seconds that a store may take for its first word


def client(uri: str) -> MlflowClient:
    """A client of a tracking store that answers.

    Raises
    ------
    UserError
        If nobody answers there, within seconds.
    """
    reach(uri)
    return connect(uri)


def connect(uri: str) -> MlflowClient:
    """A client, quietly: MLflow's own log lines do not belong in a progress display."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(uri)


def reach(uri: str) -> None:
    """Refuse an address where nobody answers: MLflow would try for minutes.

    Raises
    ------
    UserError
        Says what is wrong with the address.
    """
    try:
        if uri.startswith(("http://", "https://")):
            _ask_server(uri)
        elif uri.startswith("sqlite"):
            _look_at_file(uri)
        elif "://" in uri:
            _ask_database(uri)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UserError(
            f"tracking.uri={shown(uri)}: no answer ({reason}); expected a tracking store that can be reached, or "
            "tracking.offline=true to write to the run's folder alone."
        ) from None


def _ask_server(uri: str) -> None:
    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=_PATIENCE):
            pass
    except HTTPError:  # an answer, if only that it has no such page
        pass
    except OSError as error:
        if "CERTIFICATE" not in str(error):  # whether that matters is up to MLflow's own settings
            raise


def _look_at_file(uri: str) -> None:
    from sqlalchemy.engine import make_url

    path = Path(make_url(uri).database or "")
    if path.is_dir():
        raise ValueError("that is a folder")
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(15) != b"SQLite format 3":
                raise ValueError("that file is no sqlite database")


def _ask_database(uri: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(uri)
        if engine.url.host:
            port = engine.url.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}[engine.name]
            socket.create_connection((engine.url.host, port), timeout=_PATIENCE).close()
        engine.connect().close()
    except ImportError as error:
        raise ValueError(f"its driver is not installed: {error}") from None
    except SQLAlchemyError as error:
        raise ValueError(str(error).splitlines()[0]) from None


def experiment_id(mlflow_client: MlflowClient, name: str, artifact_location: str | None = None) -> str:
    """Number of the experiment with this name, which is made if there is none."""
    found = mlflow_client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    kind = {"mlflow.experimentKind": "custom_model_development"}  # the page opens on training runs, not on GenAI
    return str(mlflow_client.create_experiment(name, artifact_location, tags=kind))


def shown(uri: str) -> str:
    """An address without the password that it may hold."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:…@", uri)
