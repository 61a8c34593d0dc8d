"""The tracking store of a command that names none: that of ``MLFLOW_TRACKING_URI``, or else a file."""

from __future__ import annotations

import os
from pathlib import Path

from einthoven.errors import UserError
from einthoven.tracking.server import VARIABLE, without_password

DEFAULT_URI = "sqlite:///mlflow.db"


def usual_uri() -> str:
    """Return the address of the store: ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the working folder."""
    return os.environ.get(VARIABLE, DEFAULT_URI)


def usual_store(needed_by: str) -> str:
    """Return `usual_uri`, after a check that it exists. `needed_by` is the command or address that needs the store."""
    uri = usual_uri()
    if uri == DEFAULT_URI and not Path("mlflow.db").exists():
        raise UserError(f"{needed_by}: no mlflow.db in this folder; {VARIABLE} names another store.")
    return uri


def origin_of_store(uri: str) -> str:
    """Return a sentence about a store that comes from ``MLFLOW_TRACKING_URI``; empty for every other store."""
    if uri != os.environ.get(VARIABLE):
        return ""
    return f"tracking store: {without_password(uri)} (from {VARIABLE})"
