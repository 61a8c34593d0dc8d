"""The parent run of the sweep that this process belongs to. It needs no MLflow before a sweep ends."""

from __future__ import annotations

import os
from contextlib import suppress

PARENT = "EINTHOVEN_PARENT_RUN"
"""Environment variable with the run id of the parent run of a sweep. The workers of every launcher inherit it."""


def abandon(status: str) -> None:
    """Close the parent run of a sweep that ended too early. If the store is down, it stays open."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    run_id = os.environ.pop(PARENT, None)
    if run_id:
        # The sweep ends with its own error, and the same command goes on with an open run, too.
        with suppress(MlflowException):
            # The client uses the store that was opened for the sweep.
            MlflowClient().set_terminated(run_id, status)
